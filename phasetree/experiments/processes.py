"""Noise processes by name, as experiments ask for them, with what their figures call the time axis."""

from typing import Any

from diffusion import EpsilonBelief, GaussianProcess, Masking, UniformNoise

PROCESSES: dict[str, Any] = {
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
