"""Memorisation: what a model has copied from its training set.

`copies` judges generated data. The rest read it off a denoiser at given data: `p_laplace` tells how sharp a maximum of
the density a point is, `detectors` compares this and other scores on training and held-out data, by the rates of `roc`,
`split` tells up to which noise the two differ, and `coordinates` which parts of a datum are memorised, of strings too.
Every score is oriented: large means memorised.
"""

from .coordinates import coordinate_collapse as coordinate_collapse
from .copies import is_copy as is_copy
from .detectors import Detection as Detection
from .detectors import Detector as Detector
from .detectors import detect as detect
from .p_laplace import p_laplace as p_laplace
from .p_laplace import p_laplacian as p_laplacian
from .roc import auc as auc
from .roc import true_positive_rate as true_positive_rate
from .split import Split as Split
from .split import split_scale as split_scale
