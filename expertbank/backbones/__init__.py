"""The frozen model: where it comes from, which it is, and what is read of its states."""
