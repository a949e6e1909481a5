"""Theory: what exact inference, mean field and density evolution say must be seen."""

from . import collapse as collapse
from . import critical_times as critical_times
from . import density_evolution as density_evolution
from . import gaussian_field as gaussian_field
from . import mean_field as mean_field
from . import pair_correlation as pair_correlation
from .belief_propagation import batched_cavity_marginals as batched_cavity_marginals
from .belief_propagation import batched_log_evidence as batched_log_evidence
from .belief_propagation import batched_marginals as batched_marginals
from .belief_propagation import batched_posterior_sample as batched_posterior_sample
from .belief_propagation import cavity_marginals as cavity_marginals
from .belief_propagation import log_evidence as log_evidence
from .belief_propagation import marginals as marginals
from .belief_propagation import posterior_sample as posterior_sample
from .evidence import NoisedStrings as NoisedStrings
