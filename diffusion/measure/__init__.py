"""Measures: arrays or a denoiser in, an estimate with its standard error out. No prediction is imported here."""

from .estimate import Estimate as Estimate
from .estimate import mean_estimate as mean_estimate
from .retention import level_retention as level_retention
from .transition import bootstrap_crossings as bootstrap_crossings
from .transition import halfway as halfway
from .transition import locate_transition as locate_transition
