"""One module per revision, in order; append only."""
