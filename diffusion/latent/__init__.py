"""Autoencoders: what is known of a datum's latents, how they are decoded, and the free energy that training lowers.

Networks live in `diffusion.networks`, training in `diffusion.training`, measures of latents in
`diffusion.measure.relevance`.
"""
