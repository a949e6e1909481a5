"""Scores that are linear in random features: when they generalise, and when they memorise.

`spectrum` has the times and the edges of the spectrum, `moments` what a feature contributes, `samples_edge` the largest
eigenvalue of the samples' part.
"""

from .moments import FeatureMoments as FeatureMoments
from .moments import feature_moments as feature_moments
from .spectrum import SpectrumEdges as SpectrumEdges
from .spectrum import TrainingTimes as TrainingTimes
from .spectrum import spectrum_edges as spectrum_edges
from .spectrum import training_times as training_times
