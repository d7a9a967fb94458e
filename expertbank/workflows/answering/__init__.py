"""What answers: predictors of bank and bundle, and their quality on new rows."""
