"""Gaussian mixtures, with density, score and posterior in closed form, trees of clusters, and fits to data."""
