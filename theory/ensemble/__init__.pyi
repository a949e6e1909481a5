"""Averages over random grammars: mean field, density evolution, correlations between sites."""

from . import density_evolution as density_evolution
from . import information as information
from . import mean_field as mean_field
from . import pair_correlation as pair_correlation
from . import quenched as quenched
