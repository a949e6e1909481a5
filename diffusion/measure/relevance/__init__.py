"""Relevance: how much an autoencoder uses each of its latents, measured on data.

`latents` reads it off the encoder: signal to noise (by which latents are ordered), information, variance of the means,
active latents. `ablation` is what the decoder loses without a latent, `table` all of these together, and `latent_map`
what is decoded along two latents. Standard errors are those over independent data.
"""

from .ablation import ablation as ablation
from .latent_map import LatentMap as LatentMap
from .latent_map import latent_map as latent_map
from .latents import active_units as active_units
from .latents import kl as kl
from .latents import mean_variance as mean_variance
from .latents import snr as snr
from .table import Relevance as Relevance
from .table import table as table
