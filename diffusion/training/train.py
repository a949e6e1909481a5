r"""Training a denoiser: noise data, ask the network for the clean ones, descend what it got wrong.

One step draws a batch of data x_0, times t (stratified, spread by a schedule) and x_t ~ q(x_t | x_0), all inside the
compiled chunk (`descent.py`). What is descended is the denoiser's own `loss`: nats per site for strings (`loss.py`),
the squared error of a number for arrays (`parametrisation.py`).

With a `teacher` the network is asked for what the teacher knows of x_0 instead of x_0 itself: `distillation_loss`.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree, Shaped

from ..denoise.denoiser import AbstractDenoiser
from ..denoise.network import AbstractNetworkDenoiser
from ..noise.schedule import AbstractSchedule, default_schedule
from .config import TrainConfig
from .descent import NonFiniteLossError, descend
from .sources import AbstractSource, Finite, Whole, check_shape

SHOWN = 8  # data that a teacher is tried on
LOOKED_AT = 4096  # data, where training fails


class Trained(eqx.Module):
    """A trained denoiser and the loss of every step of its training, in the unit of the denoiser's `loss`."""

    denoiser: AbstractNetworkDenoiser
    losses: Float[Array, " steps"]


def train(
    key: Key[Array, ""],
    denoiser: AbstractNetworkDenoiser,
    data: AbstractSource,
    config: TrainConfig,
    *,
    teacher: AbstractDenoiser | None = None,
    schedule: AbstractSchedule | None = None,
    optimiser: optax.GradientTransformation | None = None,
    frozen: Callable[[str], bool] | None = None,
    folder: str | os.PathLike | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    observe: Callable[[int, AbstractNetworkDenoiser], None] = lambda step, denoiser: None,
) -> Trained:
    """Train a network.

    Args:
      key: decides the data, times and noise of every step.
      denoiser: holds the network with its initial parameters.
      data: where data come from: `Fresh` of any law, `Finite`, or a source of one's own.
      config: how.
      teacher: a denoiser of the same data and noise, exact, trained or a `FlowEnd`, which the network comes to imitate.
        None: the network learns from the data themselves.
      schedule: spreads the times; default `default_schedule` of the process.
      optimiser, frozen, folder, report: as of `descend`.
      observe: called after every chunk with the steps done and the denoiser of the moment, see `descend`.

    Raises:
      ValueError: if the batch cannot be shared out over the devices, the data are not what the network takes, or the
        teacher undoes another noise, knows other data or other times, or gives no probabilities of these.
      NonFiniteLossError: if the loss or a parameter is not finite.
      FolderError: if `folder` belongs to another run or is damaged.
    """
    schedule = schedule or default_schedule(denoiser.process)
    first, last = (float(schedule(jnp.full((), u))) for u in (0.0, 1.0))
    denoiser = dataclasses.replace(denoiser, trained_from=first, trained_up_to=last)
    source = _checked(data, denoiser, config.batch_size)
    if teacher is not None:
        denoiser = _taught(denoiser, teacher, source, (first, last))
    loss = _DenoisingLoss(denoiser, source, schedule, config.batch_size, teacher)

    def with_params(params: PyTree) -> AbstractNetworkDenoiser:
        return eqx.tree_at(lambda d: d.params, denoiser, params)

    try:
        found = descend(
            key,
            loss,
            denoiser.params,
            config,
            optimiser=optimiser,
            frozen=frozen,
            folder=folder,
            report=report,
            observe=lambda step, params: observe(step, with_params(params)),
        )
    except NonFiniteLossError:  # of rare symbols, perhaps, which the first batch has not
        denoiser.process.clean(source.batch(jax.random.key(0), LOOKED_AT))
        raise
    return Trained(with_params(found.params), found.losses)


def draw_times(key: Key[Array, ""], size: int, schedule: AbstractSchedule) -> Float[Array, " size"]:
    """Times at uniform progress u in (0, 1], one in each of `size` equal strata: the same law, a quieter mean."""
    uniform = jax.random.uniform(key, (size,), jnp.float32)  # in [0, 1); so u is never 0, where evidence is certain
    return schedule((jnp.arange(1, size + 1, dtype=jnp.float32) - uniform) / size)


def _checked(source: AbstractSource, denoiser: AbstractNetworkDenoiser, batch_size: int) -> AbstractSource:
    """The source, if its data are what the denoiser takes; a finite set is looked at whole, of another one batch.

    Raises:
      ValueError: if a datum has another shape, a symbol is outside the alphabet, or the data come in order.
    """
    if isinstance(source, Whole):
        raise ValueError("Whole gives data in order, so that each would meet the same times always: give Finite(data)")
    check_shape(source, batch_size, denoiser.shape)
    denoiser.process.clean(source.data if isinstance(source, Finite) else source.batch(jax.random.key(0), batch_size))
    return source


def _taught(
    denoiser: AbstractNetworkDenoiser, teacher: Any, source: AbstractSource, times: tuple[float, float]
) -> AbstractNetworkDenoiser:
    """The student of a teacher that fits it.

    Raises:
      ValueError: if the teacher does not; a few noised data are shown to it.
    """
    if not isinstance(teacher, AbstractDenoiser):
        raise ValueError(
            f"teacher is {type(teacher).__name__}: give a denoiser, GrammarDenoiser(rhm, process) of a grammar"
        )
    if teacher.shape != denoiser.shape or not eqx.tree_equal(teacher.process, denoiser.process):
        raise ValueError(
            f"the teacher undoes {teacher.process} of data {teacher.shape}, the network {denoiser.process} of "
            f"{denoiser.shape}: make them agree"
        )
    if times[0] < teacher.min_time or times[1] > teacher.max_time:
        raise ValueError(
            f"the schedule's times {times[0]:g} .. {times[1]:g} are outside of those that the teacher knows, "
            f"{teacher.min_time:g} .. {teacher.max_time:g}: give a schedule inside"
        )
    x0 = _single(denoiser.process.clean(source.batch(jax.random.key(0), SHOWN)))
    x_t, t = denoiser.process.corrupt(jax.random.key(1), x0, times[1]), jnp.full(SHOWN, times[1], jnp.float32)
    loss = eqx.filter_jit(type(denoiser).distillation_loss)(denoiser, teacher, x_t, t)
    if not np.isfinite(np.asarray(loss)).all():
        raise ValueError(
            f"the teacher gives no finite loss at t = {times[1]:g} of these data (losses {np.asarray(loss)}): it must "
            f"give probabilities of every noised site, or a finite mean"
        )
    return dataclasses.replace(denoiser, taught_ends=True) if teacher.gives_ends else denoiser


def _single(x0: Shaped[Array, "batch *datum"]) -> Shaped[Array, "batch *datum"]:
    """Arrays in float32, in which networks compute."""
    return x0.astype(jnp.float32) if jnp.issubdtype(x0.dtype, jnp.floating) else x0


class _DenoisingLoss(eqx.Module):
    """The mean loss of a batch that is drawn and noised here."""

    denoiser: AbstractNetworkDenoiser
    data: AbstractSource
    schedule: AbstractSchedule
    batch_size: int = eqx.field(static=True)
    teacher: AbstractDenoiser | None

    def __call__(self, params: PyTree, key: Key[Array, ""], shard: Callable) -> Float[Array, ""]:
        data_key, time_key, noise_key = jax.random.split(key, 3)
        x0 = _single(self.denoiser.process.clean(shard(self.data.batch(data_key, self.batch_size))))
        t = draw_times(time_key, self.batch_size, self.schedule)
        x_t = jax.vmap(self.denoiser.process.draw_noised)(jax.random.split(noise_key, self.batch_size), x0, t)
        student = eqx.tree_at(lambda d: d.params, self.denoiser, params)
        if self.teacher is None:
            return student.loss(x0, x_t, t).mean()
        return student.distillation_loss(self.teacher, x_t, t).mean()
