"""Training: where data come from, the loop that descends a loss, checkpoints, and the folders that belong to runs."""
