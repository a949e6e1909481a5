r"""Losses whose minimum is the exact posterior of a noised string.

For a string x_0 noised to x_t, in nats per site,

    posterior loss      mean over noised sites of   -ln p_net(x_0^i | x_t),                                        (1)
    cavity loss         mean over all sites of      -ln c_net(x_0^i | x_t at the other sites).                     (2)

A network whose output at a site sees the site must be trained on (1); a blind one (`NetworkDenoiser.blind`) on (2), in
which every site of every string is an example. Under masking a noised site is a masked one, and with t uniform and the
mean taken over the n masked sites of each string, the exact denoiser reaches (1) = H / (d + 1) exactly (H: entropy of
the data, d sites; n is uniform on 0 .. d, and the chain rule holds for every order of the sites).

A *teacher*, a denoiser that knows more, gives its own probabilities p_teacher(x | x_t) in the place of x_0:

    distillation        mean over the same sites of   -sum_x p_teacher(x | x_t) ln p_net(x | x_t),                 (3)

with the teacher's cavity for a blind network. The mean of (1) and (2) over x_0 given x_t is (3) of the exact teacher:
same mean, same minimum, without the scatter of x_0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ..noise.process import AbstractTokenProcess
from ..noise.strings import Masking


def posterior_loss(
    log_probs: Float[Array, "batch sites v"], x0: Int[Array, "batch sites"], weights: Float[Array, "batch sites"]
) -> Float[Array, " batch"]:
    """Weighted mean of -ln p(x_0^i) over the sites of each string, nats; `-inf` at sites of weight 0 is no harm."""
    losses = -jnp.take_along_axis(log_probs, x0[..., None], -1)[..., 0]
    return jnp.sum(jnp.where(weights > 0, weights * losses, 0.0), -1)


def expected_loss(
    log_probs: Float[Array, "batch sites v"],
    teacher: Float[Array, "batch sites v"],
    weights: Float[Array, "batch sites"],
) -> Float[Array, " batch"]:
    """Equation (3), nats; `teacher` holds ln p_teacher. Sites of weight 0, or that the teacher calls NaN, are left out.

    What the teacher calls impossible costs nothing, `-inf` or not.
    """
    known = (weights > 0) & ~jnp.any(jnp.isnan(teacher), -1)
    probs = jnp.where(known[..., None], jnp.exp(teacher), 0.0)
    terms = probs * jnp.where(probs > 0, log_probs, 0.0)
    return -jnp.sum(jnp.where(known, weights, 0.0) * jnp.sum(terms, -1), -1)


def site_weights(
    process: AbstractTokenProcess, x_t: Shaped[Array, "batch sites *vector"]
) -> Float[Array, "batch sites"]:
    """1 / n on the n noised sites of each string: the masked ones, or all where the process hides which they are."""
    noised = jnp.ones(x_t.shape[:2], bool)
    if isinstance(process, Masking):
        noised = x_t == process.num_symbols
    noised = noised.astype(jnp.float32)
    return noised / jnp.maximum(jnp.sum(noised, -1, keepdims=True), 1)
