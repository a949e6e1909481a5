"""Networks as functions of (params, x_t, t), whatever library they come from: what a denoiser calls."""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree, Shaped

from ..noise.process import AbstractProcess, AbstractTokenProcess

States = dict[str, Array]
"""What a network computes on the way, by name, first layer first; each (batch, nodes or sites, width).

JAX sorts what leaves a compiled function by name, but for an `OrderedDict`, which is what `LayeredApply` gives.
"""
Change = Callable[[str, Array], Array]
"""Given each state by name when it is made, (batch, nodes, width), it returns what the network computes on with."""
BATCH = 2  # of the call that checks shapes
STRINGS = "strings of a batch"  # axis along which a network of one datum is mapped


@runtime_checkable
class Layered(Protocol):
    """A network, of Flax or Equinox, that gives its states."""

    def states(self, x_t: Any, t: Any, /) -> States: ...


@runtime_checkable
class LayeredApply(Protocol):
    """A network without its parameters that gives its states."""

    def states(self, params: PyTree, x_t: Array, t: Array, /) -> States: ...


class FlaxApply(eqx.Module):
    """A Flax network without its parameters."""

    definition: Any = eqx.field(static=True)
    rest: PyTree
    """What is not trained: statistics, the state of random streams."""

    def network(self, params: PyTree) -> nnx.Module:
        rest = jax.tree.map(lambda leaf: leaf, self.rest)  # made anew where it is called: a call may write to it
        return nnx.merge(self.definition, params, rest)

    def __call__(self, params, x_t, t, change: Change | None = None):
        return _called(self.network(params), x_t, t, change)

    def states(self, params: PyTree, x_t: Array, t: Array, change: Change | None = None) -> States:
        return _states_of(self.network(params), x_t, t, change)


def draws(apply: FlaxApply, params: PyTree, example: tuple) -> bool:
    """Whether a call draws random numbers: it then counts on in one of the network's random streams."""
    drawn = []

    def call(params, x_t, t):
        network = apply.network(params)
        before = jax.tree.leaves(nnx.state(network, nnx.RngCount))
        _called(network, x_t, t)
        drawn.extend(a is not b for a, b in zip(before, jax.tree.leaves(nnx.state(network, nnx.RngCount)), strict=True))

    jax.eval_shape(call, params, *example)
    return any(drawn)


def changed(change: Change | None, function: Callable, *arguments: Any) -> Any:
    """Call a function with the arguments, and with `change` unless it is None.

    Raises:
      ValueError: if there is one, and the function does not take it.
    """
    if change is None:
        return function(*arguments)
    if "change" not in inspect.signature(function).parameters:
        name = getattr(function, "__qualname__", type(function).__name__)
        raise ValueError(
            f"{name} does not take change, so its states cannot be changed: give it an argument change, and compute on "
            "with change(name, state) in the place of each state"
        )
    return function(*arguments, change=change)


def _called(network: nnx.Module, x_t: Array, t: Array, change: Change | None = None) -> Array:
    with jax.numpy_dtype_promotion("standard"):  # Flax norms combine float32 statistics with bfloat16 scales
        return changed(change, network, x_t, t)


def _states_of(network: Any, x_t: Array, t: Array, change: Change | None) -> States:
    if not isinstance(network, Layered):
        raise ValueError(
            f"{type(network).__name__} has no method states(x_t, t): write one, or give states= to its door"
        )
    with jax.numpy_dtype_promotion("standard"):
        return OrderedDict(changed(change, network.states, x_t, t))


class EquinoxApply(eqx.Module):
    """An Equinox network without its parameters."""

    rest: PyTree

    def __call__(self, params, x_t, t, change: Change | None = None):
        network, own = self.network(params), _of_one(change)
        return jax.vmap(lambda x, time: changed(own, network, x, time), axis_name=STRINGS)(x_t, t)

    def network(self, params: PyTree) -> Any:
        return eqx.combine(params, self.rest)

    def states(self, params: PyTree, x_t: Array, t: Array, change: Change | None = None) -> States:
        network, own = self.network(params), _of_one(change)
        return jax.vmap(lambda x, time: _states_of(network, x, time, own), axis_name=STRINGS)(x_t, t)


def _of_one(change: Change | None) -> Change | None:
    """The change of the state of one string: its row of the change of the states of all."""
    if change is None:
        return None
    return lambda name, state: change(name, jax.lax.all_gather(state, STRINGS))[jax.lax.axis_index(STRINGS)]


class FunctionApply(eqx.Module):
    """A plain function, and what it is given beside its parameters."""

    function: Callable = eqx.field(static=True)
    rest: PyTree

    def __call__(self, params, x_t, t, change: Change | None = None):
        return changed(change, self.function, self.network(params), x_t, t)

    def network(self, params: PyTree) -> PyTree:
        """What the function is given first."""
        return eqx.combine(params, self.rest)


class WithStates(eqx.Module):
    """A network without its parameters, and a function of a user's own that gives its states."""

    apply: FlaxApply | FunctionApply
    read: Callable = eqx.field(static=True)
    """(network, or the parameters of a function, x_t, t) -> states."""

    def __call__(self, params, x_t, t, change: Change | None = None):
        return self.apply(params, x_t, t, change)

    def states(self, params: PyTree, x_t: Array, t: Array, change: Change | None = None) -> States:
        with jax.numpy_dtype_promotion("standard"):
            return OrderedDict(changed(change, self.read, self.apply.network(params), x_t, t))


class HostApply(eqx.Module):
    """A function that is called back on the host."""

    function: Callable = eqx.field(static=True)
    arrays: Callable = eqx.field(static=True)
    process: AbstractProcess
    shape: tuple[int, ...] = eqx.field(static=True)
    """Of the output for one datum."""

    def __call__(self, params, x_t, t):
        expected = jax.ShapeDtypeStruct((len(x_t), *self.shape), t.dtype)

        @jax.custom_jvp
        def call(x_t, t):
            return jax.pure_callback(self.on_host, expected, x_t, t, vmap_method="sequential")

        @call.defjvp
        def _(primals, tangents):
            raise ValueError(
                "the denoiser runs on the host (`from_host`) and has no derivative, which is needed here: give one "
                "that JAX can trace (`from_function`, `from_equinox`, `from_flax`), or ask what takes no derivative"
            )

        return call(x_t, t)

    def on_host(self, x_t, t):
        output = _as_numpy(self.function(self.arrays(np.array(x_t)), self.arrays(np.array(t))))
        if output.shape != (len(x_t), *self.shape):
            expected = f"{output_in_words(self.process)} = {(len(x_t), *self.shape)}"
            raise ValueError(f"the function returned {output.shape}; expected {expected}")
        return output.astype(np.asarray(t).dtype)


def as_arrays(params: PyTree) -> PyTree:
    """NumPy arrays and Python's floating-point numbers as arrays of JAX, which can be trained."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic | float) else leaf, params
    )


def example(process: AbstractProcess, datum: tuple[int, ...]) -> tuple[Shaped[Array, "batch *x_t"], Array]:
    """Noised data, the arguments of a network: x_t and t."""
    x0 = jnp.zeros((BATCH, *datum), jnp.int32 if isinstance(process, AbstractTokenProcess) else jnp.float32)
    t = jnp.full(BATCH, 0.5, jnp.float32)
    return process.corrupt(jax.random.key(0), x0, t), t


def output_in_words(process: AbstractProcess) -> str:
    if isinstance(process, AbstractTokenProcess):
        return "logits of shape (batch, sites, symbols)"
    return "an array of the shape of x_t, (batch, ...)"


def _as_numpy(output: Any) -> np.ndarray:
    """An array of real numbers.

    Raises:
      ValueError: if it is none, or NumPy cannot read it.
    """
    try:
        output = np.asarray(output)
        array = np.from_dlpack(output.item()) if output.dtype == object and output.ndim == 0 else output
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"NumPy cannot read what the function returned ({error}): return a NumPy array, or a tensor on the CPU "
            f"without gradient, of a type that NumPy has (float32, not bfloat16)"
        ) from error
    if not (jnp.issubdtype(array.dtype, np.floating) or jnp.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"the function returned {array.dtype}: return real numbers, float32 for example")
    return array
