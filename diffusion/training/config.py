"""How to train: sizes, the default optimiser, and which of these numbers make another training."""

import dataclasses
import math
import operator
from typing import Any

import optax


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    steps: int = 3000
    """Updates, in all; the default rate falls to the last of them."""
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
    """Steps per compiled call; also how often progress is reported."""
    steps_per_checkpoint: int = 500
    """Steps between checkpoints: what a kill can cost at most."""

    def __post_init__(self):
        for name in ("steps", "batch_size", "steps_per_chunk", "steps_per_checkpoint"):
            if not _is_whole(getattr(self, name)):
                raise ValueError(f"{name} = {getattr(self, name)}: must be a whole number")
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


def adamw(config: TrainConfig) -> optax.GradientTransformation:
    """The default optimiser: AdamW with the rate of `TrainConfig`, the norm of the gradient clipped."""
    end = config.learning_rate * config.final_rate
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup(config), config.steps, end)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm), optax.adamw(rate, b2=0.99, weight_decay=config.weight_decay)
    )


def warmup(config: TrainConfig) -> int:
    """Steps of warm-up, at most half of all."""
    return min(config.warmup_steps, config.steps // 2)


def config_identity(config: TrainConfig, default_optimiser: bool) -> dict[str, Any]:
    """The numbers of `config` on which the result depends; see the head of `descent.py`."""
    unread = {"steps_per_chunk", "steps_per_checkpoint"}
    read = dataclasses.asdict(config) | {"warmup_steps": warmup(config)}
    if not default_optimiser:
        unread |= {"steps", "learning_rate", "final_rate", "warmup_steps", "weight_decay", "clip_norm"}
    elif config.final_rate == 1:
        unread |= {"steps"}
    if "steps" not in unread:
        read["steps"] = f"{config.steps} of a falling rate"
    return {name: value for name, value in read.items() if name not in unread}


def _is_whole(number: Any) -> bool:
    try:
        return operator.index(number) is not None
    except TypeError:
        return False
