r"""Losses whose minimum is the exact posterior of a noised string.

For a string x_0 noised to x_t, in nats per site,

    posterior loss      mean over noised sites of   -ln p_net(x_0^i | x_t),                                        (1)
    cavity loss         mean over all sites of      -ln c_net(x_0^i | x_t at the other sites).                     (2)

A network whose output at a site sees the site must be trained on (1); a blind one (`NetworkDenoiser.blind`) on (2), in
which every site of every string is an example. Under masking a noised site is a masked one, and with t uniform and the
mean taken over the n masked sites of each string, the exact denoiser reaches (1) = H / (d + 1) exactly (H: entropy of
the data, d sites; n is uniform on 0 .. d, and the chain rule holds for every order of the sites).

A *teacher* is a denoiser that knows more. Its probabilities p_teacher(x | x_t) take the place of x_0:

    distillation        mean over the same sites of   -sum_x p_teacher(x | x_t) ln p_net(x | x_t).                 (3)

A blind network learns from the teacher's cavity. Beside an exact teacher (3) has the mean of (1) and (2), over x_0 and
x_t, and the same minimum; it lacks the noise of drawing x_0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

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
    """Equation (3), nats; `teacher` holds ln p_teacher, and sites of weight 0 are left out.

    A symbol of teacher's probability 0 adds nothing, even where ln p_net is `-inf`. NaN where the teacher gives no
    probabilities at a site that counts: NaN, or numbers that do not add up to 1, as where it calls x_t impossible.
    """
    probs = jnp.exp(teacher).astype(log_probs.dtype)
    proper = jnp.abs(jnp.sum(probs, -1) - 1) < 1e-3  # not of NaN
    terms = jnp.sum(jnp.where(probs > 0, probs * jnp.where(probs > 0, log_probs, 0.0), 0.0), -1)
    return -jnp.sum(jnp.where(weights > 0, weights * jnp.where(proper, terms, jnp.nan), 0.0), -1)


def noised_sites(
    process: AbstractTokenProcess, x_t: Shaped[Array, "batch sites *vector"]
) -> Bool[Array, "batch sites"]:
    """The masked sites, or all where the process hides which are noised."""
    return x_t == process.num_symbols if isinstance(process, Masking) else jnp.ones(x_t.shape[:2], bool)


def site_weights(
    process: AbstractTokenProcess, x_t: Shaped[Array, "batch sites *vector"]
) -> Float[Array, "batch sites"]:
    """1 / n on the n noised sites of each string, see `noised_sites`."""
    noised = noised_sites(process, x_t).astype(jnp.float32)
    return noised / jnp.maximum(jnp.sum(noised, -1, keepdims=True), 1)
