"""What was measured and what it means: per-example predictions, metrics, statistics.

Works on stored predictions with NumPy and SciPy alone: no model, no text, no database.
"""
