"""Networks whose states are changed on the way: what a state is used for, where a probe says what can be read off it.

A change is given each state by name when it is made, and the network computes on with what it returns. The parameters
stay as they are, and so does a state for which the change returns what it was given.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .apply import Change, LayeredApply, States, changed

NO_STATES = "this network gives no states: give states=, a function of (params, x_t, t), to its door"


class SteeredApply(eqx.Module):
    """A network without its parameters, each of whose states is changed before the network computes on."""

    apply: Callable
    """One that takes a change, perhaps steered itself: its own change then comes first."""
    change: Change

    def __call__(self, params, x_t, t, change: Change | None = None):
        return self._watched(lambda mine: changed(mine, self.apply, params, x_t, t), change)

    def states(self, params: PyTree, x_t: Array, t: Array, change: Change | None = None) -> States:
        """As the network computed on with them."""
        if not isinstance(self.apply, LayeredApply):
            raise ValueError(NO_STATES)
        read = self.apply.states
        return self._watched(lambda mine: changed(mine, read, params, x_t, t), change)

    def _watched(self, call: Callable[[Change], Any], then: Change | None) -> Any:
        """What a call gives with the change of its own and then another.

        Raises:
          ValueError: if the change gives another shape or dtype, or every state as it was.
        """
        same: dict[str, bool] = {}

        def mine(name: str, state: Array) -> Array:
            new = _checked(name, state, self.change(name, state))
            same[name] = new is state
            return new if then is None else then(name, new)

        given = call(mine)
        if all(same.values()):
            raise ValueError(f"the change returns every state as it was: the states are {', '.join(same)}")
        return given


def refuse_unsteerable(apply: Callable, params: PyTree, example: tuple[Array, Array]) -> None:
    """Trace a network once with a change that does nothing.

    Raises:
      ValueError: if it, or what gives its states, does not take a change, or makes no state with it.
    """
    calls = [apply, apply.states] if isinstance(apply, LayeredApply) else [apply]
    for call in calls:
        names: list[str] = []

        def seen(name: str, state: Array, names: list[str] = names) -> Array:
            names.append(name)
            return state

        jax.eval_shape(lambda params, call=call, seen=seen: changed(seen, call, params, *example), params)
        if not names:
            raise ValueError("the network takes change, but calls it for no state: compute on with change(name, state)")


def _checked(name: str, state: Array, new: Any) -> Array:
    """Raises ValueError if what a change returns is not of the shape and dtype of the state."""
    if not isinstance(new, jax.Array | np.ndarray) or (new.shape, new.dtype) != (state.shape, state.dtype):
        got = f"{new.dtype} {new.shape}" if isinstance(new, jax.Array | np.ndarray) else type(new).__name__
        raise ValueError(f"the change of state {name!r} returns {got}: return {state.dtype} {state.shape}")
    return jnp.asarray(new)
