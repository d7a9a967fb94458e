"""Rows in as JSON lines, answers out as JSON lines."""
