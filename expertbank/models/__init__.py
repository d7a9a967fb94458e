"""The frozen backbone and what reads it: features, gates, expert files, the one-pass model."""
