r"""Descending a loss in compiled chunks of steps, on one device or many, checkpointed and resumable.

The loss draws its own batch: it is a function of (params, key, shard), where `shard` spreads a batch over the devices;
parameters are replicated and XLA inserts the mean. Drawing data, gradient and update are inside one compiled chunk. The
random key of step i is `fold_in(key, i)`, so a run that was killed and resumed is the uninterrupted run, bit for bit.

A folder of checkpoints belongs to one training: one key, loss (with its data and network), initial parameters, frozen
parameters, optimiser and `TrainConfig`, compared by the digests of `identity.py`. What changes no number may differ:
`steps_per_chunk`, `steps_per_checkpoint`, and `steps` where the learning rate does not depend on it, that is with
`final_rate` 1 or an optimiser of one's own. There a finished training continues to more steps, and is the longer
training, bit for bit. A rate that falls to the last step makes more steps another training, which is refused.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree

from ..denoise.apply import as_arrays
from ..folders.checkpoint import Checkpoints
from ..folders.identity import digest
from ..folders.run_folder import FolderError
from .config import TrainConfig, adamw, config_identity

GENERATION = 6
"""Raised whenever the same training comes to give other numbers: what an older program began is not continued."""


class TrainState(eqx.Module):
    """All that a checkpoint must hold; of `params`, those that are trained."""

    step: Int[Array, ""]
    params: PyTree
    average: PyTree
    optimiser: PyTree
    losses: Float[Array, " steps"]


class Descended(NamedTuple):
    """The averaged parameters, and the loss of every step."""

    params: PyTree
    losses: Float[Array, " steps"]


class NonFiniteLossError(RuntimeError):
    """Training has diverged; the message says when and what to change."""


def descend(
    key: Key[Array, ""],
    loss: Callable[[PyTree, Key[Array, ""], Callable], Float[Array, ""]],
    params: PyTree,
    config: TrainConfig,
    *,
    optimiser: optax.GradientTransformation | None = None,
    frozen: Callable[[str], bool] | None = None,
    folder: str | os.PathLike | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    observe: Callable[[int, PyTree], None] = lambda step, params: None,
) -> Descended:
    """Lower a loss.

    Args:
      key: decides what is random in the loss of every step.
      loss: (params, key, shard) -> the loss of one batch, a pytree (an `eqx.Module`) so that its arrays are arguments
        of the compiled program. In bfloat16 it is given parameters of that type.
      params: where to begin. Floating-point numbers are trained, integers and random keys keep their value.
      config: how.
      optimiser: any of Optax, in place of AdamW with the rate, decay and clipping of `config`, which then do not count.
      frozen: whether the parameter of a name such as "layers/0/mix/kernel" keeps its value. None: all are trained.
      folder: where checkpoints go; if it holds some of the same training, it continues there. None: no checkpoints.
      report: called after every chunk with the steps done and the mean loss of the chunk.
      observe: called after every chunk, before its checkpoint, with the steps done and the averaged parameters; of a
        run that was killed it sees again what came after the last checkpoint, the same bits.

    Raises:
      ValueError: if the batch cannot be shared out over the devices, no parameter is left to train, or AdamW would have
        to train float16.
      NonFiniteLossError: if the loss or a parameter is not finite.
      FolderError: if `folder` belongs to another training, is in use or is damaged.
      OSError: if a checkpoint cannot be written.
    """
    params = as_arrays(params)
    mesh = _mesh(config.batch_size)
    replicated = NamedSharding(mesh, PartitionSpec())
    trained, kept = eqx.partition(params, _is_trained(params, frozen))
    if optimiser is None and any(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(trained)):
        raise ValueError("parameters are of float16, where AdamW divides 0 by 0: give float32 or bfloat16")
    state = jax.device_put(_initial(trained, config, optimiser), replicated)
    with contextlib.ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            identity = _identity(key, loss, params, trained, config, optimiser)
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(folder, identity, GENERATION)))
            state = jax.device_put(_resumed(checkpoints, state), replicated)
        while (done := int(state.step)) < config.steps:
            stop = min(done + config.steps_per_chunk, config.steps)
            state = _chunk(state, jnp.int32(stop), key, loss, kept, config, optimiser, mesh)
            mean = float(np.mean(np.asarray(state.losses[done:stop])))
            if not (np.isfinite(mean) and _is_finite(state.params)):
                raise NonFiniteLossError(
                    f"the loss ({mean}) or its gradient is no longer finite between steps {done} and {stop}: lower "
                    f"learning_rate"
                )
            report(stop, mean)
            observe(stop, eqx.combine(state.average, kept))
            if checkpoints and (stop % config.steps_per_checkpoint < stop - done or stop == config.steps):
                checkpoints.save(stop, _without_future(state, stop))
    return Descended(eqx.combine(state.average, kept), state.losses)


@eqx.filter_jit
def _chunk(state: TrainState, stop, key, loss, kept, config: TrainConfig, optimiser, mesh) -> TrainState:
    """Steps `state.step` .. `stop`; their number is traced, so a shorter last chunk compiles nothing."""
    update = optax.with_extra_args_support(optimiser or adamw(config)).update

    def shard(x):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec("data")))

    def batch_loss(trained, key):
        params = eqx.combine(trained, kept)
        return loss(jax.tree.map(_to_bfloat16, params) if config.bfloat16 else params, key, shard)

    def step(_, state: TrainState) -> TrainState:
        step_key = jax.random.fold_in(key, state.step)
        value, gradient = jax.value_and_grad(batch_loss)(state.params, step_key)

        def again(params):  # the loss of the same batch, for optimisers that search along a line
            return batch_loss(params, jax.random.clone(step_key))

        with jax.numpy_dtype_promotion("standard"):
            updates, optimiser_state = update(
                gradient, state.optimiser, state.params, value=value, grad=gradient, value_fn=again
            )
            params = optax.apply_updates(state.params, updates)
            decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step)).astype(jnp.float32)
        average = jax.tree.map(lambda old, new: decay.astype(new.dtype) * (old - new) + new, state.average, params)
        losses = state.losses.at[state.step].set(value.astype(jnp.float32))
        return TrainState(state.step + 1, params, average, optimiser_state, losses)

    return jax.lax.fori_loop(state.step, stop, step, state)


def _initial(trained: PyTree, config: TrainConfig, optimiser: optax.GradientTransformation | None) -> TrainState:
    losses = jnp.zeros(config.steps, jnp.float32)
    return TrainState(jnp.int32(0), trained, trained, (optimiser or adamw(config)).init(trained), losses)


def _without_future(state: TrainState, step: int) -> TrainState:
    """The losses of the steps done alone, so that a checkpoint does not depend on how many are to come."""
    return eqx.tree_at(lambda s: s.losses, state, jnp.asarray(np.asarray(state.losses)[:step]))


def _resumed(checkpoints: Checkpoints, state: TrainState) -> TrainState:
    """The newest checkpoint, else `state`."""
    steps = len(state.losses)

    def like(done: int) -> TrainState:
        if done > steps:
            raise FolderError(
                f"{checkpoints.folder} holds {done} steps, steps = {steps} is less: ask for {done} or more"
            )
        return _without_future(state, done)

    read = checkpoints.latest(like)
    if read is None:
        return state
    losses = np.pad(np.asarray(read.losses), (0, steps - len(read.losses)))
    return eqx.tree_at(lambda s: s.losses, read, jnp.asarray(losses))


def _identity(key: Key[Array, ""], loss, params: PyTree, trained: PyTree, config: TrainConfig, optimiser) -> dict:
    """What a folder of checkpoints is compared with; see the head of this file."""
    fields = vars(loss) if isinstance(loss, eqx.Module) else {"loss": loss}
    return {
        **config_identity(config, optimiser is None),
        "key": jax.random.key_data(key).tolist(),
        "optimiser": None if optimiser is None else digest(optimiser),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained)),
        "initial": digest((params, jax.tree.structure(trained))),
        **{name: field if isinstance(field, int | str) else digest(field) for name, field in fields.items()},
    }


def _is_trained(params: PyTree, frozen: Callable[[str], bool] | None) -> PyTree:
    """True in the place of every parameter that is trained."""
    names = jax.tree_util.tree_map_with_path(
        lambda place, leaf: jax.tree_util.keystr(place, simple=True, separator="/"), params
    )
    floating = jax.tree.map(eqx.is_inexact_array, params)
    stays = jax.tree.map(frozen or (lambda name: False), names)
    if frozen and not any(jax.tree.leaves(stays)):
        raise ValueError(f"frozen names none of the parameters: {', '.join(jax.tree.leaves(names))}")
    trained = jax.tree.map(lambda number, stays: number and not stays, floating, stays)
    if not any(jax.tree.leaves(trained)):
        raise ValueError(
            "nothing is left to train: the network has no floating-point parameters that are not frozen (a network "
            "behind `from_host` is trained in its own library)"
        )
    return trained


def _to_bfloat16(leaf: Any) -> Any:
    return leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf


def _is_finite(params: PyTree) -> bool:
    """A loss may be finite where its gradient is not: the parameters show it, before they are saved or returned."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(params))


def _mesh(batch_size: int) -> jax.sharding.Mesh:
    devices = jax.device_count()
    if batch_size % devices:
        raise ValueError(f"batch_size = {batch_size} cannot be shared out over {devices} devices: make it a multiple")
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
