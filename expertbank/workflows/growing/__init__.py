"""What makes a bank grow: init, add, retrain-router."""
