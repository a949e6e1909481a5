"""Gaussian mixtures, with density, score and posterior in closed form, trees of them, and fits to data."""
