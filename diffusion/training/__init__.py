"""Training: where data come from, how to train, and the loop that descends a loss."""
