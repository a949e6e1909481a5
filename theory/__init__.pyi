"""Theory: what exact inference, mean field and density evolution say must be seen."""

from . import compare as compare
from . import exact as exact
from . import inference as inference
from .ensemble import density_evolution as density_evolution
from .ensemble import information as information
from .ensemble import mean_field as mean_field
from .ensemble import pair_correlation as pair_correlation
from .ensemble import quenched as quenched
from .gaussian import collapse as collapse
from .gaussian import gaussian_field as gaussian_field
from .gaussian import labelled as labelled
from .gaussian import random_features as random_features
from .gaussian import seed_weight as seed_weight
from .gaussian import speciation as speciation
from .gaussian import windows as windows
from .inference.belief_propagation import cavity_marginals as cavity_marginals
from .inference.belief_propagation import log_evidence as log_evidence
from .inference.belief_propagation import marginals as marginals
from .inference.belief_propagation import most_likely as most_likely
from .inference.belief_propagation import posterior_entropy as posterior_entropy
from .inference.belief_propagation import posterior_sample as posterior_sample
from .inference.belief_propagation import rule_counts as rule_counts
from .inference.evidence import NoisedStrings as NoisedStrings
