"""Suites that hold what an outsider adds against what expertbank relies on; they need pytest."""
