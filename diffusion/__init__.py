"""Diffusion: noise a datum, learn to undo it, probe what was learned."""

from .process import EpsilonBelief as EpsilonBelief
from .process import GaussianProcess as GaussianProcess
from .process import Masking as Masking
from .process import UniformNoise as UniformNoise
from .process import VarianceExploding as VarianceExploding
from .process import VariancePreserving as VariancePreserving
