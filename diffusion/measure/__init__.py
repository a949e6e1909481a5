"""Measures: arrays or a denoiser in, an estimate with its standard error out. No prediction is imported here."""

from .correlation import Changes as Changes
from .correlation import Peak as Peak
from .correlation import change_sums as change_sums
from .correlation import changed as changed
from .correlation import connected_sums as connected_sums
from .correlation import connected_sums_within as connected_sums_within
from .correlation import correlation as correlation
from .correlation import correlation_length as correlation_length
from .correlation import displacement as displacement
from .correlation import locate_peak as locate_peak
from .correlation import over_trajectories as over_trajectories
from .correlation import susceptibility as susceptibility
from .crossing import bootstrap_crossings as bootstrap_crossings
from .crossing import halfway as halfway
from .crossing import locate_transition as locate_transition
from .estimate import Estimate as Estimate
from .estimate import bootstrap as bootstrap
from .estimate import mean_estimate as mean_estimate
from .geometry import AbstractGeometry as AbstractGeometry
from .geometry import GridGeometry as GridGeometry
from .geometry import LineGeometry as LineGeometry
from .geometry import RingGeometry as RingGeometry
from .geometry import TreeGeometry as TreeGeometry
from .likelihood import log_density as log_density
from .retention import level_retention as level_retention
