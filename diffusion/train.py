r"""Training a denoiser: noise fresh data, compare with the clean symbols, descend.

One step draws a batch of strings x_0, times t (stratified, spread by a schedule) and x_t ~ q(x_t | x_0), and descends
the cross-entropy of the network, in nats per site. Two losses have the exact posterior as their minimum:

    posterior loss      mean over noised sites of   -ln p_net(x_0^i | x_t),                                        (1)
    cavity loss         mean over all sites of      -ln c_net(x_0^i | x_t at the other sites).                     (2)

A network whose output at a site sees the site must use (1); a blind one (`NetworkDenoiser.blind`) uses (2), in which
every site of every string is an example. Under masking a noised site is a masked one, and with t uniform and the mean
taken over the n masked sites of each string, the exact denoiser reaches (1) = H / (d + 1) exactly (H: entropy of the
data, d sites; n is uniform on 0 .. d, and the chain rule holds for every order of the sites).

Everything from drawing the data to the update happens inside one compiled chunk of steps. The random key of step i is
`fold_in(key, i)`, so a run that was killed and resumed is the uninterrupted run, bit for bit. On several devices the
batch is sharded and the parameters replicated; XLA inserts the mean over devices.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from hierarchical import RandomHierarchyModel, sample_strings

from .checkpoint import Checkpoints
from .denoiser import NetworkDenoiser
from .process import AbstractProcess, Masking
from .schedule import AbstractSchedule, default_schedule


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train. Every field is part of a run's identity."""

    steps: int = 3000
    """Updates, in all."""
    batch_size: int = 128
    """Strings per update; a multiple of the number of devices."""
    learning_rate: float = 2e-3
    """Peak of AdamW's rate: linear warm-up, then a cosine to 0."""
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
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay = {self.ema_decay}: must be in [0, 1)")


class FreshStrings(eqx.Module):
    """An endless supply: every batch is drawn anew from the grammar."""

    rhm: RandomHierarchyModel

    def batch(self, key: Key[Array, ""], size: int) -> Int[Array, "size sites"]:
        return sample_strings(key, self.rhm, size)


class TrainingSet(eqx.Module):
    """A finite set of strings, drawn with replacement."""

    strings: Int[Array, "n sites"]

    def batch(self, key: Key[Array, ""], size: int) -> Int[Array, "size sites"]:
        return self.strings[jax.random.randint(key, (size,), 0, len(self.strings))]


class TrainState(eqx.Module):
    """All that a checkpoint must hold."""

    step: Int[Array, ""]
    params: PyTree
    average: PyTree
    optimizer: PyTree
    losses: Float[Array, " steps"]


class Trained(eqx.Module):
    """A trained denoiser and the loss of every step of its training, nats per site."""

    denoiser: NetworkDenoiser
    losses: Float[Array, " steps"]


class NonFiniteLossError(RuntimeError):
    """Training has diverged; the message says when and what to change."""


def train(
    key: Key[Array, ""],
    denoiser: NetworkDenoiser,
    data: FreshStrings | TrainingSet,
    config: TrainConfig,
    *,
    schedule: AbstractSchedule | None = None,
    folder: str | os.PathLike | None = None,
    fingerprint: dict | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Trained:
    """Train a network.

    Args:
      key: decides the data, times and noise of every step.
      denoiser: holds the network with its initial parameters.
      data: where strings come from.
      config: how.
      schedule: spreads the times; default `default_schedule` of the process.
      folder: where checkpoints go; if it holds some, training continues there. None: no checkpoints.
      fingerprint: what identifies the run beyond `config`, `key` and the number of parameters (the grammar, say), so
        that a folder of another run is refused.
      report: called after every chunk with the steps done and the mean loss of the chunk.

    Raises:
      ValueError: if the batch cannot be shared out over the devices.
      NonFiniteLossError: if the loss or a parameter is not finite.
      FolderError: if `folder` belongs to another run or is damaged.
    """
    mesh, schedule = _mesh(config.batch_size), schedule or default_schedule(denoiser.process)
    state = jax.device_put(_initial(denoiser.params, config), NamedSharding(mesh, PartitionSpec()))
    with contextlib.ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            identity = {**_identity(key, denoiser.params, config), **(fingerprint or {})}
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(folder, identity)))
            state = checkpoints.latest(state) or state
        while (done := int(state.step)) < config.steps:
            stop = min(done + config.steps_per_chunk, config.steps)
            state = _chunk(state, jnp.int32(stop), key, denoiser, data, schedule, config, mesh)
            loss = float(np.mean(np.asarray(state.losses[done:stop])))
            if not (np.isfinite(loss) and _is_finite(state.params)):
                raise NonFiniteLossError(
                    f"the loss ({loss}) or its gradient is no longer finite between steps {done} and {stop}: lower "
                    f"learning_rate"
                )
            report(stop, loss)
            if checkpoints and (stop % config.steps_per_checkpoint < stop - done or stop == config.steps):
                checkpoints.save(stop, state)
    return Trained(eqx.tree_at(lambda d: d.params, denoiser, state.average), state.losses)


def draw_times(key: Key[Array, ""], size: int, schedule: AbstractSchedule) -> Float[Array, " size"]:
    """Times at uniform progress u in (0, 1], one in each of `size` equal strata: the same law, a quieter mean."""
    uniform = jax.random.uniform(key, (size,), jnp.float32)  # in [0, 1); so u is never 0, where evidence is certain
    return schedule((jnp.arange(1, size + 1, dtype=jnp.float32) - uniform) / size)


def posterior_loss(
    log_probs: Float[Array, "batch sites v"], x0: Int[Array, "batch sites"], weights: Float[Array, "batch sites"]
) -> Float[Array, " batch"]:
    """Weighted mean of -ln p(x_0^i) over the sites of each string, nats; `-inf` at sites of weight 0 is no harm."""
    losses = -jnp.take_along_axis(log_probs, x0[..., None], -1)[..., 0]
    return jnp.sum(jnp.where(weights > 0, weights * losses, 0.0), -1)


def site_weights(process: AbstractProcess, x_t: Shaped[Array, "batch sites *vector"]) -> Float[Array, "batch sites"]:
    """1 / n on the n noised sites of each string: the masked ones, or all where the process hides which they are."""
    noised = jnp.ones(x_t.shape[:2], bool)
    if isinstance(process, Masking):
        noised = x_t == process.num_symbols
    noised = noised.astype(jnp.float32)
    return noised / jnp.maximum(jnp.sum(noised, -1, keepdims=True), 1)


def _loss(params: PyTree, key, denoiser: NetworkDenoiser, data, schedule, config: TrainConfig, shard) -> Array:
    data_key, time_key, noise_key = jax.random.split(key, 3)
    x0 = shard(data.batch(data_key, config.batch_size))
    t = draw_times(time_key, config.batch_size, schedule)
    x_t = jax.vmap(denoiser.process.corrupt)(jax.random.split(noise_key, config.batch_size), x0, t)
    if config.bfloat16:
        params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    denoiser = eqx.tree_at(lambda d: d.params, denoiser, params)
    if denoiser.blind:
        return posterior_loss(denoiser.cavity(x_t, t), x0, jnp.full(x0.shape, 1 / x0.shape[1], jnp.float32)).mean()
    return posterior_loss(denoiser(x_t, t), x0, site_weights(denoiser.process, x_t)).mean()


@eqx.filter_jit
def _chunk(state: TrainState, stop, key, denoiser, data, schedule, config: TrainConfig, mesh) -> TrainState:
    """Steps `state.step` .. `stop`; their number is traced, so a shorter last chunk compiles nothing."""
    optimizer = _optimizer(config)

    def shard(x):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec("data")))

    def step(_, state: TrainState) -> TrainState:
        step_key = jax.random.fold_in(key, state.step)
        loss, gradient = jax.value_and_grad(_loss)(state.params, step_key, denoiser, data, schedule, config, shard)
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
            decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step)).astype(jnp.float32)
        average = jax.tree.map(lambda old, new: decay.astype(new.dtype) * (old - new) + new, state.average, params)
        losses = state.losses.at[state.step].set(loss.astype(jnp.float32))
        return TrainState(state.step + 1, params, average, optimizer_state, losses)

    return jax.lax.fori_loop(state.step, stop, step, state)


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    warmup = min(config.warmup_steps, config.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, config.steps)
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
