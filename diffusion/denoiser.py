r"""One interface for exact, empirical and learned denoisers: (x_t, t) -> the posterior of every site of x_0.

Everything downstream (forward-backward, measures, experiments) takes an `AbstractDenoiser` and does not ask which kind
it is. Denoisers that know the joint posterior, not only its marginals, are `AbstractJointDenoiser`s: they can undo all
noise in one exact draw.

A network enters by one door, `NetworkDenoiser`. Its output f(x_t, t), logits (batch, sites, v), is read as the
*cavity*: what the other sites say about a site. The site's own evidence is known exactly and is added, not learned:

    ln p(x_0^i = x | x_t) = f_i(x) + ln q(x_t^i | x_0^i = x) + const.                                              (1)

Under masking this is the usual carry-over of visible tokens; under uniform noise f is the target of the D3PM loss.
Gradients of the cross-entropy of (1) therefore train the cavity, whatever the process.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from .process import AbstractProcess

BatchCorrupted = Shaped[Array, "batch sites *vector"]
Times = Float[Array, " batch"]
LogProbs = Float[Array, "batch sites v"]


class AbstractDenoiser(eqx.Module):
    """Maps noised strings to the posterior of each site. Takes a batch: networks and exact inference need it inside."""

    process: eqx.AbstractVar[AbstractProcess]

    @abc.abstractmethod
    def __call__(self, x_t: BatchCorrupted, t: Times) -> LogProbs:
        """ln p(x_0^i = x | x_t), nats, normalised over x. Rows that are all `-inf` mean that x_t is impossible."""


class AbstractJointDenoiser(AbstractDenoiser):
    """A denoiser that can draw whole strings from p(x_0 | x_t)."""

    @abc.abstractmethod
    def posterior_sample(self, key: Key[Array, ""], x_t: BatchCorrupted, t: Times) -> Int[Array, "batch sites"]:
        """One exact draw for each row of `x_t`, independent of each other."""


class NetworkDenoiser(AbstractDenoiser):
    """A network behind the interface, equation (1)."""

    process: AbstractProcess
    apply: Callable[[PyTree, Array, Array], Array]
    """(params, x_t, t) -> logits (batch, sites, v); a module without parameters, or a plain function."""
    params: PyTree
    blind: bool = eqx.field(static=True, default=False)
    """Whether the output at a site is independent of that site, as `TreeUNet`'s is. A network that sees the site must
    be trained on the sum (1); a blind one can be trained on its cavity at every site, see `train`."""

    def cavity(self, x_t: BatchCorrupted, t: Times) -> LogProbs:
        """The network's own output, normalised: ln p(x_0^i | x_t at the other sites)."""
        return jax.nn.log_softmax(self.apply(self.params, x_t, t).astype(t.dtype))

    def __call__(self, x_t, t):
        evidence = jax.vmap(self.process.log_likelihood)(x_t, t)
        # one site that no symbol explains makes its string impossible, at every site, as for the exact denoiser
        impossible = jnp.any(jnp.all(evidence == -jnp.inf, -1), -1)[:, None, None]
        logits = self.apply(self.params, x_t, t).astype(t.dtype)
        posterior = jax.nn.log_softmax(logits + jnp.where(impossible, 0.0, evidence))
        return jnp.where(impossible, -jnp.inf, posterior)


class _FlaxApply(eqx.Module):
    definition: Any = eqx.field(static=True)
    rest: PyTree  # what is not trained: statistics, the state of random streams

    def __call__(self, params, x_t, t):
        with jax.numpy_dtype_promotion("standard"):  # Flax norms combine float32 statistics with bfloat16 scales
            return nnx.merge(self.definition, params, self.rest)(x_t, t)


class _EquinoxApply(eqx.Module):
    rest: PyTree

    def __call__(self, params, x_t, t):
        return jax.vmap(eqx.combine(params, self.rest))(x_t, t)


class _FunctionApply(eqx.Module):
    function: Callable = eqx.field(static=True)

    def __call__(self, params, x_t, t):
        return self.function(params, x_t, t)


class _HostApply(eqx.Module):
    function: Callable = eqx.field(static=True)
    arrays: Callable = eqx.field(static=True)
    num_symbols: int = eqx.field(static=True)

    def __call__(self, params, x_t, t):
        expected = jax.ShapeDtypeStruct((*x_t.shape[:2], self.num_symbols), t.dtype)
        return jax.pure_callback(self._on_host, expected, x_t, t, vmap_method="sequential")

    def _on_host(self, x_t, t):
        found = self.function(self.arrays(np.array(x_t)), self.arrays(np.array(t)))
        logits = np.from_dlpack(found) if hasattr(found, "__dlpack__") else np.asarray(found)
        expected = (*x_t.shape[:2], self.num_symbols)
        if logits.shape != expected:
            raise ValueError(
                f"the function returned {logits.shape}; expected logits (batch, sites, symbols) = {expected}"
            )
        return logits.astype(t.dtype)


def from_flax(network: nnx.Module, process: AbstractProcess, num_sites: int, *, blind: bool = False) -> NetworkDenoiser:
    """A Flax (nnx) network called as `network(x_t, t)` on batches. Split once: later calls cost no Python.

    Its `nnx.Param`s are trained; all other state stays as it is now (a running mean is not updated, a dropout layer
    that is not switched off drops the same units in every call).
    """
    definition, params, rest = nnx.split(network, nnx.Param, ...)
    return _checked(NetworkDenoiser(process, _FlaxApply(definition, rest), params, blind), num_sites)


def from_equinox(network: eqx.Module, process: AbstractProcess, num_sites: int) -> NetworkDenoiser:
    """An Equinox network called as `network(x_t, t)` on one string (sites, ...) and its scalar time; it is vmapped."""
    params, rest = eqx.partition(network, eqx.is_inexact_array)
    return _checked(NetworkDenoiser(process, _EquinoxApply(rest), params), num_sites)


def from_function(function: Callable, params: PyTree, process: AbstractProcess, num_sites: int) -> NetworkDenoiser:
    """A plain function `function(params, x_t, t)` on batches; `params` is any pytree of arrays."""
    return _checked(NetworkDenoiser(process, _FunctionApply(function), params), num_sites)


def from_host(
    function: Callable, process: AbstractProcess, num_sites: int, *, arrays: Callable = np.asarray
) -> NetworkDenoiser:
    """A function that JAX cannot trace, `function(x_t, t)` on batches: NumPy, PyTorch, anything on this machine.

    It is called back from the compiled experiment, once per step of the sampler, and cannot be trained here. Called
    once here too, so that a wrong shape is told where it was made.

    Args:
      arrays: makes the function's kind of array of a NumPy array; `torch.from_dlpack` for PyTorch, without a copy. What
        comes back is read through DLPack, or as NumPy does: from PyTorch a tensor on the CPU, without gradient.

    Raises:
      ValueError: if the result is not (batch, sites, symbols).
    """
    apply, batch = _HostApply(function, arrays, process.num_symbols), 2
    x0, t = jnp.zeros((batch, num_sites), jnp.int32), jnp.full(batch, 0.5, jnp.float32)
    x_t = jax.vmap(process.corrupt)(jax.random.split(jax.random.key(0), batch), x0, t)
    apply._on_host(np.asarray(x_t), np.asarray(t))
    return NetworkDenoiser(process, apply, ())


def _checked(denoiser: NetworkDenoiser, num_sites: int) -> NetworkDenoiser:
    """Trace the network once, without running it, so that a wrong shape is told where it was made."""
    process, batch = denoiser.process, 2
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    x0 = jax.ShapeDtypeStruct((batch, num_sites), jnp.int32)
    t = jax.ShapeDtypeStruct((batch,), jnp.float32)
    x_t = jax.eval_shape(jax.vmap(process.corrupt), keys, x0, t)
    got = eqx.filter_eval_shape(denoiser.apply, denoiser.params, x_t, t)
    expected = (batch, num_sites, process.num_symbols)
    if getattr(got, "shape", None) != expected:
        raise ValueError(
            f"the network maps x_t {x_t.shape} and t {t.shape} to {got}; expected logits of shape (batch, sites, "
            f"symbols) = {expected}: give its last layer {process.num_symbols} outputs per site"
        )
    return denoiser
