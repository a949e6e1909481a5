"""Samplers: from noised data back to clean ones, with any denoiser; forward-backward; generation from noise alone."""
