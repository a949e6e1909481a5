r"""The doors: a network of Flax, Equinox, plain JAX, NumPy or PyTorch becomes a denoiser.

Every door takes the network, the noise process and the shape of a datum, and calls the network once, or traces it, so
that a wrong shape is refused where it was made. A process of strings makes a `NetworkDenoiser`, whose output is logits
(batch, sites, symbols); `VectorProcess` a `VectorNetworkDenoiser`, whose output has the shape of x_t.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from ..noise.gaussian import VectorProcess
from ..noise.process import AbstractProcess, AbstractTokenProcess
from .apply import (
    BATCH,
    EquinoxApply,
    FlaxApply,
    FunctionApply,
    HostApply,
    States,
    WithStates,
    as_arrays,
    draws,
    example,
    output_in_words,
)
from .network import AbstractNetworkDenoiser, NetworkDenoiser, VectorNetworkDenoiser
from .parametrisation import AbstractParametrisation, AbstractWeighting, OutputWeight, Preconditioned

UNIT_DATA = Preconditioned()
OUTPUT = OutputWeight()
Shape = int | tuple[int, ...]


def from_flax(
    network: nnx.Module,
    process: AbstractProcess,
    shape: Shape,
    *,
    blind: bool = False,
    states: Callable[[Any, Array, Array], States] | None = None,
    parametrisation: AbstractParametrisation = UNIT_DATA,
    weighting: AbstractWeighting = OUTPUT,
) -> AbstractNetworkDenoiser:
    """A Flax (nnx) network called as `network(x_t, t)` on batches; it is split once, so later calls cost no Python.

    Its `nnx.Param`s are trained. All other state stays as it is now, because a denoiser is a function: the
    denoiser holds a copy of the network in Flax's evaluation mode, whose dropout is off, in training too, and whose
    batch norms use the running statistics that they have.

    Args:
      shape: of a datum; of a string, its number of sites.
      blind: of strings, whether the output at a site is independent of that site.
      states: of strings, `states(network, x_t, t)` gives what `NetworkDenoiser.states` does; None: the network's own
        method of this name, if it has one. `save` keeps no function.
      parametrisation: of arrays, how the output is read.
      weighting: of arrays, how errors at different times count in training.

    Raises:
      ValueError: if the output has another shape, an array's network is called blind, or a call draws random numbers.
    """
    network = nnx.clone(network)
    network.eval()
    definition, params, rest = nnx.split(network, nnx.Param, ...)
    apply = FlaxApply(definition, rest)
    denoiser = _checked(_denoiser(process, shape, apply, params, parametrisation, weighting, blind))
    if nnx.filter_state(rest, nnx.RngCount) and draws(apply, params, _example_of(denoiser)):
        raise ValueError(
            "the network draws random numbers in every call: a denoiser is a function of x_t and t, so leave them out "
            "after `network.eval()`, as dropout does"
        )
    return denoiser if states is None else _with_states(denoiser, apply, states)


def from_equinox(
    network: eqx.Module,
    process: AbstractProcess,
    shape: Shape,
    *,
    blind: bool = False,
    parametrisation: AbstractParametrisation = UNIT_DATA,
    weighting: AbstractWeighting = OUTPUT,
) -> AbstractNetworkDenoiser:
    """An Equinox network called as `network(x_t, t)` on one datum and its scalar time; it is vmapped.

    Arguments and errors as of `from_flax`.
    """
    params, rest = eqx.partition(network, eqx.is_inexact_array)
    return _checked(_denoiser(process, shape, EquinoxApply(rest), params, parametrisation, weighting, blind))


def from_function(
    function: Callable,
    params: PyTree,
    process: AbstractProcess,
    shape: Shape,
    *,
    blind: bool = False,
    states: Callable[[Any, Array, Array], States] | None = None,
    parametrisation: AbstractParametrisation = UNIT_DATA,
    weighting: AbstractWeighting = OUTPUT,
) -> AbstractNetworkDenoiser:
    """A plain function `function(params, x_t, t)` on batches; `params` is any pytree of arrays.

    Floating-point numbers in it are trained; integers, random keys and the collections beside "params" of a Flax linen
    network (its "batch_stats") keep their value. Arguments and errors as of `from_flax`, but that `states` is called as
    `states(params, x_t, t)`.
    """
    trained, rest = eqx.partition(as_arrays(params), _is_trained(params))
    apply = FunctionApply(function, rest)
    denoiser = _checked(_denoiser(process, shape, apply, trained, parametrisation, weighting, blind))
    return denoiser if states is None else _with_states(denoiser, apply, states)


def from_host(
    function: Callable,
    process: AbstractProcess,
    shape: Shape,
    *,
    blind: bool = False,
    arrays: Callable = np.asarray,
    parametrisation: AbstractParametrisation = UNIT_DATA,
) -> AbstractNetworkDenoiser:
    """A function that JAX cannot trace, `function(x_t, t)` on batches: NumPy, PyTorch, anything on this machine.

    It is called back from the compiled experiment, once per step of the sampler, and cannot be trained here. Called
    once here too, so that a wrong shape, type or NaN is refused where it was made.

    Args:
      shape: of a datum; of a string, its number of sites.
      blind: of strings, whether the output at a site is independent of that site.
      arrays: makes the function's kind of array of a NumPy array; `torch.from_dlpack` for PyTorch, without a copy. What
        comes back is read as NumPy does, or through DLPack: from PyTorch a tensor on the CPU, without gradient. Real
        numbers of any width, bfloat16 as `ml_dtypes` has it among them, become those of t.
      parametrisation: of arrays, how the output is read.

    Raises:
      ValueError: if the output has another shape, is not real, or is not finite (`-inf` may be a logit), or an array's
        function is called blind.
    """
    datum = _datum_shape(shape)
    apply = HostApply(function, arrays, process, _output_shape(process, datum))
    x_t, t = (np.asarray(array) for array in example(process, datum))
    output = apply.on_host(x_t, t)
    wrong = np.isnan(output) | (output == np.inf)
    if (wrong if isinstance(process, AbstractTokenProcess) else ~np.isfinite(output)).any():
        raise ValueError(f"the function returned NaN or infinity for zeros noised to t = {t[0]}: return finite numbers")
    return _denoiser(process, shape, apply, (), parametrisation, OUTPUT, blind)


def _denoiser(
    process: AbstractProcess,
    shape: Shape,
    apply: Callable,
    params: PyTree,
    parametrisation: AbstractParametrisation,
    weighting: AbstractWeighting,
    blind: bool,
) -> AbstractNetworkDenoiser:
    datum = _datum_shape(shape)
    if isinstance(process, VectorProcess):
        if blind:
            raise ValueError("blind = True is for strings: a network of arrays sees all of x_t, leave it out")
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
    raise ValueError(f"{type(process).__name__} is neither a process of strings nor of arrays")


def _with_states(
    denoiser: AbstractNetworkDenoiser, apply: FlaxApply | FunctionApply, states: Callable
) -> NetworkDenoiser:
    """The denoiser, with a function of a user's own that gives its states.

    Raises:
      ValueError: if it is one of arrays, or the function gives no states of strings.
    """
    if not isinstance(denoiser, NetworkDenoiser):
        raise ValueError("states = ... is for strings: a denoiser of arrays gives none, leave it out")
    given = dataclasses.replace(denoiser, apply=WithStates(apply, states))
    jax.eval_shape(lambda: given.states(*example(given.process, given.shape)))
    return given


def _is_trained(params: PyTree) -> PyTree:
    """True in the place of every parameter that is trained."""
    trained = jax.tree.map(eqx.is_inexact_array, as_arrays(params))
    if isinstance(params, Mapping) and {"params", "batch_stats"} <= {*params}:  # the variables of a Flax linen network
        return {name: jax.tree.map(lambda leaf, n=name: leaf and n == "params", part) for name, part in trained.items()}
    return trained


def _checked(denoiser: AbstractNetworkDenoiser) -> AbstractNetworkDenoiser:
    """Trace the network once, without running it."""
    datum = denoiser.shape
    x_t, t = _example_of(denoiser)
    got = eqx.filter_eval_shape(denoiser.apply, denoiser.params, x_t, t)
    output = _output_shape(denoiser.process, datum)
    if getattr(got, "shape", None) != (BATCH, *output):
        expected = f"{output_in_words(denoiser.process)} = {(BATCH, *output)}"
        raise ValueError(
            f"the network maps x_t {x_t.shape} and t {t.shape} to {got}; expected {expected}"
            + (f": give its last layer {output[-1]} outputs per site" if output != datum else "")
        )
    return denoiser


def _example_of(denoiser: AbstractNetworkDenoiser) -> tuple[Any, Any]:
    """The shapes of x_t and t."""
    return jax.eval_shape(lambda: example(denoiser.process, denoiser.shape))


def _output_shape(process: AbstractProcess, datum: tuple[int, ...]) -> tuple[int, ...]:
    return (*datum, process.num_symbols) if isinstance(process, AbstractTokenProcess) else datum


def _datum_shape(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
