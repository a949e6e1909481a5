"""Changes of a datum between noising and denoising: how they correlate over distances of a geometry."""
