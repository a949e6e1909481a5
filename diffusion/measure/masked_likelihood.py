r"""The likelihood of a masked-diffusion model of strings, from above.

A denoiser that fills in the n masked tokens of a window of d tokens gives, averaged over which are masked,

    c_n = mean over masked i of -ln p(x^i | visible tokens)      (nats per token),                               (1)
    -ln p(x) <= d * mean over n = 1 .. d of c_n .                                                                (2)

(2) is the chain rule in a random order, with Jensen's inequality for the average over orders: revealing the tokens one
by one, the cost of the next is c_n when n are left. Divided by ln 2 and by the characters of the window it bounds the
bits per character. With n from K equal strata of 1 .. d, every window is measured at all noise levels, which makes the
mean less noisy.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, Key

from hierarchical.arguments import AnyKey, Given, as_key, as_symbols

from ..denoise.denoiser import AbstractDenoiser
from ..noise.process import batch_axes
from ..noise.strings import Masking
from ..sampling.samplers import check_positive


def stratified_numbers(key: AnyKey, num_windows: int, length: int, strata: int) -> Int32[Array, "num_windows strata"]:
    """Numbers of masked tokens: column k is uniform on the k-th of `strata` equal parts of 1 .. length."""
    uniform = jax.random.uniform(as_key(key), (num_windows, strata), jnp.float32)  # in [0, 1)
    fraction = (jnp.arange(strata, dtype=jnp.float32)[None] + uniform) / strata
    return jnp.minimum(jnp.floor(length * fraction), length - 1).astype(jnp.int32) + 1


def masked_costs(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    windows: Given,
    num_masked: Given,
    batch_size: int = 128,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Float32[np.ndarray, "*batch k"]:
    """d times equation (1), nats per window, for one random set of `num_masked` tokens each.

    The mean over columns made by `stratified_numbers` estimates the bound (2) of each window. `report` is called after
    each batch with the number of batches done and of all.

    Args:
      denoiser: of `Masking`.
      windows: tokens, (..., d) with the d sites of the denoiser.
      num_masked: (..., k), numbers from 1 to d for each window.

    Raises:
      ValueError: if the denoiser undoes other noise, the windows are not of its length or hold what is no token (the
        mask is none), or the numbers do not fit the windows or are not whole and from 1 to d.
    """
    if not isinstance(denoiser.process, Masking):
        raise ValueError(f"the denoiser undoes {type(denoiser.process).__name__}: give one of Masking")
    check_positive("batch_size", batch_size)
    tokens = as_symbols(windows, denoiser.process.num_symbols, "windows")
    batch, length = batch_axes(tokens, denoiser.shape, "windows"), tokens.shape[-1]
    numbers = _checked_numbers(num_masked, batch, length)
    rows = np.repeat(np.asarray(tokens).reshape(-1, length), numbers.shape[-1], axis=0)
    total = len(rows)
    padding = -total % batch_size  # equal batches compile once
    rows = np.pad(rows, ((0, padding), (0, 0)), mode="wrap").reshape(-1, batch_size, length)
    counts = np.pad(numbers.reshape(-1), (0, padding), mode="wrap").reshape(-1, batch_size)
    keys = jax.random.split(as_key(key), len(rows))
    costs = []
    for k, x0, n in zip(keys, rows, counts, strict=True):
        costs.append(np.asarray(_batch_costs(k, denoiser, jnp.asarray(x0), jnp.asarray(n))))
        report(len(costs), len(rows))
    return np.concatenate(costs)[:total].reshape(numbers.shape)


def _checked_numbers(num_masked: Given, batch: tuple[int, ...], length: int) -> Int32[np.ndarray, "*batch k"]:
    numbers = np.asarray(num_masked)
    if numbers.shape[:-1] != batch or numbers.size == 0 or numbers.ndim < 1:
        raise ValueError(
            f"num_masked has shape {numbers.shape}, the windows {(*batch, length)}: give a row for each window"
        )
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"num_masked is of {numbers.dtype}: give whole numbers from 1 to {length}")
    wrong = numbers[(numbers < 1) | (numbers > length)]
    if wrong.size:
        raise ValueError(f"num_masked holds {wrong[0]}: give numbers from 1 to {length}, the tokens of a window")
    return numbers.astype(np.int32)


@eqx.filter_jit
def _batch_costs(
    key: Key[Array, ""], denoiser: AbstractDenoiser, x0: Int32[Array, "batch sites"], n: Int32[Array, " batch"]
) -> Float32[Array, " batch"]:
    order = jnp.argsort(jax.random.uniform(key, x0.shape, jnp.float32), -1)
    masked = jnp.argsort(order, -1).astype(n.dtype) < n[:, None]
    fraction = n.astype(jnp.float32) / x0.shape[1]
    log_probs = denoiser(jnp.where(masked, jnp.int32(denoiser.process.num_symbols), x0), fraction)
    nats = -jnp.take_along_axis(log_probs, x0[..., None], -1)[..., 0]
    return (jnp.sum(jnp.where(masked, nats, 0), -1) / fraction).astype(jnp.float32)
