r"""Descending a loss: AdamW in compiled chunks of steps, on one device or many, checkpointed and resumable.

The loss draws its own batch: it is a function of (params, key, shard), where `shard` spreads a batch over the devices;
parameters are replicated and XLA inserts the mean. Drawing data, gradient and update are inside one compiled chunk. The
random key of step i is `fold_in(key, i)`, so a run that was killed and resumed is the uninterrupted run, bit for bit.
"""

import contextlib
import dataclasses
import math
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

from .checkpoint import Checkpoints


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train. Every field is part of a run's identity."""

    steps: int = 3000
    """Updates, in all."""
    batch_size: int = 128
    """Data per update; a multiple of the number of devices."""
    learning_rate: float = 2e-3
    """Peak of AdamW's rate: linear warm-up, then a cosine."""
    final_rate: float = 0.0
    """Where the cosine ends, as a fraction of the peak; 1 keeps the rate constant, for times to mean something."""
    warmup_steps: int = 200
    """Steps over which the rate rises from 0."""
    weight_decay: float = 1e-4
    """Of AdamW, per unit of learning rate."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; larger ones are scaled down."""
    ema_decay: float = 0.995
    """The result is the exponential moving average of the parameters with this decay per step."""
    bfloat16: bool = False
    """Compute in bfloat16; parameters, updates and the loss stay in float32."""
    steps_per_chunk: int = 100
    """Steps per compiled call; also how often progress is told."""
    steps_per_checkpoint: int = 500
    """Steps between checkpoints: what a kill can cost at most."""

    def __post_init__(self):
        for name in ("steps", "batch_size", "steps_per_chunk", "steps_per_checkpoint"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} = {getattr(self, name)}: must be positive and finite")
        for name in ("warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 0 or more, and finite")
        if not 0 <= self.final_rate <= 1:
            raise ValueError(f"final_rate = {self.final_rate}: must be in [0, 1]")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay = {self.ema_decay}: must be in [0, 1)")


class TrainState(eqx.Module):
    """All that a checkpoint must hold."""

    step: Int[Array, ""]
    params: PyTree
    average: PyTree
    optimizer: PyTree
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
    folder: str | os.PathLike | None = None,
    fingerprint: dict[str, Any] | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    observe: Callable[[int, PyTree], None] = lambda step, params: None,
) -> Descended:
    """Lower a loss.

    Args:
      key: decides what is random in the loss of every step.
      loss: (params, key, shard) -> the loss of one batch, a pytree (an `eqx.Module`) so that its arrays are arguments
        of the compiled program. In bfloat16 it is given parameters of that type.
      params: where to begin.
      config: how.
      folder: where checkpoints go; if it holds some, training continues there. None: no checkpoints.
      fingerprint: what identifies the run beyond `config`, `key` and the number of parameters, so that a folder of
        another run is refused.
      report: called after every chunk with the steps done and the mean loss of the chunk.
      observe: called after every chunk, before its checkpoint, with the steps done and the averaged parameters; of a
        run that was killed it sees again what came after the last checkpoint, the same bits.

    Raises:
      ValueError: if the batch cannot be shared out over the devices.
      NonFiniteLossError: if the loss or a parameter is not finite.
      FolderError: if `folder` belongs to another run or is damaged.
    """
    mesh = _mesh(config.batch_size)
    state = jax.device_put(_initial(params, config), NamedSharding(mesh, PartitionSpec()))
    with contextlib.ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            identity = {**_identity(key, params, config), **(fingerprint or {})}
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(folder, identity)))
            state = checkpoints.latest(state) or state
        while (done := int(state.step)) < config.steps:
            stop = min(done + config.steps_per_chunk, config.steps)
            state = _chunk(state, jnp.int32(stop), key, loss, config, mesh)
            found = float(np.mean(np.asarray(state.losses[done:stop])))
            if not (np.isfinite(found) and _is_finite(state.params)):
                raise NonFiniteLossError(
                    f"the loss ({found}) or its gradient is no longer finite between steps {done} and {stop}: lower "
                    f"learning_rate"
                )
            report(stop, found)
            observe(stop, state.average)
            if checkpoints and (stop % config.steps_per_checkpoint < stop - done or stop == config.steps):
                checkpoints.save(stop, state)
    return Descended(state.average, state.losses)


@eqx.filter_jit
def _chunk(state: TrainState, stop, key, loss, config: TrainConfig, mesh) -> TrainState:
    """Steps `state.step` .. `stop`; their number is traced, so a shorter last chunk compiles nothing."""
    optimizer = _optimizer(config)

    def shard(x):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec("data")))

    def batch_loss(params, key):
        if config.bfloat16:
            params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        return loss(params, key, shard)

    def step(_, state: TrainState) -> TrainState:
        found, gradient = jax.value_and_grad(batch_loss)(state.params, jax.random.fold_in(key, state.step))
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
            decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step)).astype(jnp.float32)
        average = jax.tree.map(lambda old, new: decay.astype(new.dtype) * (old - new) + new, state.average, params)
        losses = state.losses.at[state.step].set(found.astype(jnp.float32))
        return TrainState(state.step + 1, params, average, optimizer_state, losses)

    return jax.lax.fori_loop(state.step, stop, step, state)


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    warmup = min(config.warmup_steps, config.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, config.steps, config.learning_rate * config.final_rate
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm), optax.adamw(rate, b2=0.99, weight_decay=config.weight_decay)
    )


def _initial(params: PyTree, config: TrainConfig) -> TrainState:
    losses = jnp.full(config.steps, jnp.nan, jnp.float32)
    return TrainState(jnp.int32(0), params, params, _optimizer(config).init(params), losses)


def _identity(key: Key[Array, ""], params: PyTree, config: TrainConfig) -> dict:
    """What a folder of checkpoints is held against: another key or network is another run."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return {**dataclasses.asdict(config), "key": jax.random.key_data(key).tolist(), "parameters": count}


def _is_finite(params: PyTree) -> bool:
    """A loss may be finite where its gradient is not: then the parameters tell, before they are saved or returned."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(params))


def _mesh(batch_size: int) -> jax.sharding.Mesh:
    devices = jax.device_count()
    if batch_size % devices:
        raise ValueError(f"batch_size = {batch_size} cannot be shared out over {devices} devices: make it a multiple")
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
