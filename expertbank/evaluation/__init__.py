"""What was measured and what it means: evidence files, metrics, statistics, the report.

Works on stored evidence with NumPy alone: no model, no text, no database.
"""
