r"""The dimension of strings: how many free symbols there are, in a string of given length.

A set of v^k strings of an alphabet of v symbols, all equally likely, has dimension k, whatever its length: the entropy
over ln v. A masked denoiser tells it string by string, by the chain rule in a random order (`surprise`),

    k(x) = -ln p(x) / ln v,                                                                                        (1)

whose mean over data is at least H / ln v, and equal to it for the exact denoiser of their law. In a random hierarchy
all strings are equally likely, so (1) is the same for each: ln n / ln v + ((s^L - 1) / (s - 1)) ln m / ln v.
Estimators that measure distances have no meaning here: neighbours in Hamming distance share no rule.
"""

import math

import jax.numpy as jnp

from diffusion.denoise.denoiser import AbstractDenoiser
from hierarchical.arguments import AnyKey, Given, Whole

from ..estimate import mean_estimate
from ..surprise import visible_costs
from .pointwise import Dimension


def of_strings(
    key: AnyKey, denoiser: AbstractDenoiser, x: Given, *, num_orders: Whole = 1, batch_size: Whole = 1024
) -> Dimension:
    """Equation (1) of each string, with its error over orders: NaN of a single one. A call for each site and order.

    Flag "excluded": the denoiser gives the string no probability; its value is infinite.

    Args:
      denoiser: of `Masking`.
      x: strings (..., sites), none masked for (1) to be of all of them.

    Raises:
      ValueError: as `visible_costs`; or if the alphabet has a single symbol.
    """
    costs = visible_costs(key, denoiser, x, num_orders, batch_size)
    symbols = denoiser.process.num_symbols
    if symbols < 2:
        raise ValueError(f"num_symbols = {symbols}: strings of a single symbol have dimension 0 whatever they are")
    found = mean_estimate(jnp.moveaxis(jnp.asarray(costs.nats) / math.log(symbols), -1, 0))
    return Dimension(found.value, found.stderr, {"excluded": jnp.isinf(found.value)})
