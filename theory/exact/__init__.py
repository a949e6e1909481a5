"""Denoisers that are known exactly: grammars, Markov chains, Gaussian mixtures, manifolds, and finite training sets.

All but those of manifolds are joint denoisers: they draw whole data from p(x_0 | x_t), so forward-backward undoes all
noise in one exact draw.
"""

from .blended import BlendedDenoiser as BlendedDenoiser
from .curve import CurveDenoiser as CurveDenoiser
from .empirical import AbstractEmpiricalDenoiser as AbstractEmpiricalDenoiser
from .empirical import EmpiricalDenoiser as EmpiricalDenoiser
from .empirical import seed_log_weights as seed_log_weights
from .grammar import GrammarDenoiser as GrammarDenoiser
from .law import LawDenoiser as LawDenoiser
from .law import SphereDenoiser as SphereDenoiser
from .markov import MarkovDenoiser as MarkovDenoiser
from .mixture import MixtureDenoiser as MixtureDenoiser
