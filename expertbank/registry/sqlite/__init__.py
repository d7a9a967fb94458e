"""A registry in one SQLite file: its connections, its upgrades, its copies and its own checks."""
