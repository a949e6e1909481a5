"""Closed forms and limits of Gaussian laws: speciation, collapse, random features, fields on trees."""

from . import collapse as collapse
from . import critical_times as critical_times
from . import gaussian_field as gaussian_field
from . import random_features as random_features
