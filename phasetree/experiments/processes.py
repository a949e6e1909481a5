"""Noise processes by name, as experiments ask for them, with what their figures call the time axis."""

from collections.abc import Callable

from diffusion import EpsilonBelief, GaussianProcess, Masking, UniformNoise
from diffusion.noise.process import AbstractTokenProcess

PROCESSES: dict[str, Callable[[int], AbstractTokenProcess]] = {
    "masking": Masking,
    "uniform": UniformNoise,
    "gaussian": GaussianProcess,
    "epsilon": EpsilonBelief,
}

AXIS = {
    "masking": "masked fraction $t$",
    "uniform": "replaced fraction $t$",
    "gaussian": "Ornstein-Uhlenbeck time $t$",
    "epsilon": r"noise $\epsilon$",
}
