"""Immutable files named by their SHA-256, and the portable folder that is shipped."""
