"""What leaves a bank and comes into another: exports and imports."""
