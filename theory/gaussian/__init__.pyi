"""Closed forms and limits of Gaussian laws: speciation, collapse, flows, outliers, random features, fields, VAEs."""

from . import collapse as collapse
from . import flow_map as flow_map
from . import gaussian_field as gaussian_field
from . import labelled as labelled
from . import linear_vae as linear_vae
from . import outlier as outlier
from . import random_features as random_features
from . import seed_weight as seed_weight
from . import speciation as speciation
from . import windows as windows
