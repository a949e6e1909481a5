r"""The doors: a network of Flax, Equinox, plain JAX, NumPy or PyTorch becomes a denoiser.

Every door takes the network, the noise process and the shape of a datum, and calls the network once, or traces it, so
that a wrong shape is told where it was made. A process of strings makes a `NetworkDenoiser`, whose output is logits
(batch, sites, symbols); `VectorProcess` a `VectorNetworkDenoiser`, whose output has the shape of x_t.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree, Shaped

from ..noise.gaussian import VectorProcess
from ..noise.process import AbstractProcess, AbstractTokenProcess
from .network import AbstractNetworkDenoiser, NetworkDenoiser, VectorNetworkDenoiser
from .parametrisation import AbstractParametrisation, AbstractWeighting, OutputWeight, Preconditioned

BATCH = 2  # of the call that checks shapes
UNIT_DATA = Preconditioned()
OUTPUT = OutputWeight()
Shape = int | tuple[int, ...]


def from_flax(
    network: nnx.Module,
    process: AbstractProcess,
    shape: Shape,
    *,
    blind: bool = False,
    parametrisation: AbstractParametrisation = UNIT_DATA,
    weighting: AbstractWeighting = OUTPUT,
) -> AbstractNetworkDenoiser:
    """A Flax (nnx) network called as `network(x_t, t)` on batches. Split once: later calls cost no Python.

    Its `nnx.Param`s are trained; all other state stays as it is now (a running mean is not updated, a dropout layer
    that is not switched off drops the same units in every call).

    Args:
      shape: of a datum; of a string, its number of sites.
      blind: of strings, whether the output at a site is independent of that site.
      parametrisation: of arrays, what the network gives.
      weighting: of arrays, how errors at different times count in training.

    Raises:
      ValueError: if the output has another shape, or an array's network is called blind.
    """
    definition, params, rest = nnx.split(network, nnx.Param, ...)
    apply = _FlaxApply(definition, rest)
    return _checked(_denoiser(process, shape, apply, params, parametrisation, weighting, blind))


def from_equinox(
    network: eqx.Module,
    process: AbstractProcess,
    shape: Shape,
    *,
    parametrisation: AbstractParametrisation = UNIT_DATA,
    weighting: AbstractWeighting = OUTPUT,
) -> AbstractNetworkDenoiser:
    """An Equinox network called as `network(x_t, t)` on one datum and its scalar time; it is vmapped.

    Arguments and errors as of `from_flax`.
    """
    params, rest = eqx.partition(network, eqx.is_inexact_array)
    return _checked(_denoiser(process, shape, _EquinoxApply(rest), params, parametrisation, weighting))


def from_function(
    function: Callable,
    params: PyTree,
    process: AbstractProcess,
    shape: Shape,
    *,
    parametrisation: AbstractParametrisation = UNIT_DATA,
    weighting: AbstractWeighting = OUTPUT,
) -> AbstractNetworkDenoiser:
    """A plain function `function(params, x_t, t)` on batches; `params` is any pytree of arrays.

    Arguments and errors as of `from_flax`.
    """
    return _checked(_denoiser(process, shape, _FunctionApply(function), params, parametrisation, weighting))


def from_host(
    function: Callable,
    process: AbstractProcess,
    shape: Shape,
    *,
    arrays: Callable = np.asarray,
    parametrisation: AbstractParametrisation = UNIT_DATA,
) -> AbstractNetworkDenoiser:
    """A function that JAX cannot trace, `function(x_t, t)` on batches: NumPy, PyTorch, anything on this machine.

    It is called back from the compiled experiment, once per step of the sampler, and cannot be trained here. Called
    once here too, so that a wrong shape is told where it was made.

    Args:
      shape: of a datum; of a string, its number of sites.
      arrays: makes the function's kind of array of a NumPy array; `torch.from_dlpack` for PyTorch, without a copy. What
        comes back is read through DLPack, or as NumPy does: from PyTorch a tensor on the CPU, without gradient.
      parametrisation: of arrays, what the function gives.

    Raises:
      ValueError: if the output has another shape.
    """
    datum = _datum_shape(shape)
    apply = _HostApply(function, arrays, process, _output_shape(process, datum))
    x_t, t = (np.asarray(array) for array in _example(process, datum))
    apply.on_host(x_t, t)
    return _denoiser(process, shape, apply, (), parametrisation, OUTPUT)


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
    process: AbstractProcess
    shape: tuple[int, ...] = eqx.field(static=True)
    """Of the output for one datum."""

    def __call__(self, params, x_t, t):
        expected = jax.ShapeDtypeStruct((len(x_t), *self.shape), t.dtype)
        return jax.pure_callback(self.on_host, expected, x_t, t, vmap_method="sequential")

    def on_host(self, x_t, t):
        found = self.function(self.arrays(np.array(x_t)), self.arrays(np.array(t)))
        output = np.from_dlpack(found) if hasattr(found, "__dlpack__") else np.asarray(found)
        if output.shape != (len(x_t), *self.shape):
            expected = f"{_meaning(self.process)} = {(len(x_t), *self.shape)}"
            raise ValueError(f"the function returned {output.shape}; expected {expected}")
        return output.astype(np.asarray(t).dtype)


def _denoiser(
    process: AbstractProcess,
    shape: Shape,
    apply: Callable,
    params: PyTree,
    parametrisation: AbstractParametrisation,
    weighting: AbstractWeighting,
    blind: bool = False,
) -> AbstractNetworkDenoiser:
    datum = _datum_shape(shape)
    if isinstance(process, VectorProcess):
        if blind:
            raise ValueError("blind = True is of strings: a network of arrays sees all of x_t, leave it out")
        return VectorNetworkDenoiser(
            process=process,
            apply=apply,
            params=params,
            datum_shape=datum,
            parametrisation=parametrisation,
            weighting=weighting,
        )
    if isinstance(process, AbstractTokenProcess):
        return NetworkDenoiser(process=process, apply=apply, params=params, datum_shape=datum, blind=blind)
    raise ValueError(f"{type(process).__name__} is a process neither of strings nor of arrays")


def _checked(denoiser: AbstractNetworkDenoiser) -> AbstractNetworkDenoiser:
    """Trace the network once, without running it."""
    datum = denoiser.shape
    x_t, t = jax.eval_shape(lambda: _example(denoiser.process, datum))
    got = eqx.filter_eval_shape(denoiser.apply, denoiser.params, x_t, t)
    output = _output_shape(denoiser.process, datum)
    if getattr(got, "shape", None) != (BATCH, *output):
        raise ValueError(
            f"the network maps x_t {x_t.shape} and t {t.shape} to {got}; expected {_meaning(denoiser.process)} = "
            f"{(BATCH, *output)}" + (f": give its last layer {output[-1]} outputs per site" if output != datum else "")
        )
    return denoiser


def _example(process: AbstractProcess, datum: tuple[int, ...]) -> tuple[Shaped[Array, "batch *x_t"], Array]:
    """Noised data, as a network is given them: x_t and t."""
    x0 = jnp.zeros((BATCH, *datum), jnp.int32 if isinstance(process, AbstractTokenProcess) else jnp.float32)
    t = jnp.full(BATCH, 0.5, jnp.float32)
    return process.corrupt(jax.random.key(0), x0, t), t


def _output_shape(process: AbstractProcess, datum: tuple[int, ...]) -> tuple[int, ...]:
    return (*datum, process.num_symbols) if isinstance(process, AbstractTokenProcess) else datum


def _meaning(process: AbstractProcess) -> str:
    if isinstance(process, AbstractTokenProcess):
        return "logits of shape (batch, sites, symbols)"
    return "an array of the shape of x_t, (batch, ...)"


def _datum_shape(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
