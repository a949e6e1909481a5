"""Real images: readers of folders and files, sets that installed packages carry, classes and held-out images."""
