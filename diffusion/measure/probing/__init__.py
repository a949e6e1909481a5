"""Probing: what a representation holds, an array of states (..., n, width) of n data, however it was made.

`linear` reads symbols and probabilities off states, `agreement` compares two representations of the same data,
`spread` and `coding_rate` say how much of its dimensions one uses, `sparse` takes states apart into features and
`matching` compares those with true latents, `steering` makes changes of states. Arrays come in and estimates go out;
which states there are is the business of `NetworkDenoiser.states`, what becomes of changed ones that of
`NetworkDenoiser.steered`. Standard errors are those over independent data.
"""

from .agreement import linear_cka as linear_cka
from .agreement import neighbourhood_agreement as neighbourhood_agreement
from .coding_rate import coding_rate as coding_rate
from .coding_rate import rate_reduction as rate_reduction
from .linear import Probe as Probe
from .linear import ProbeScore as ProbeScore
from .linear import fit_probe as fit_probe
from .linear import linear_probe as linear_probe
from .linear import score_probe as score_probe
from .matching import Matched as Matched
from .matching import best_match as best_match
from .matching import matched_cosine as matched_cosine
from .sparse import SparseAutoencoder as SparseAutoencoder
from .sparse import train_sparse as train_sparse
from .spread import early_enrichment as early_enrichment
from .spread import effective_rank as effective_rank
from .spread import participation_ratio as participation_ratio
from .steering import Directions as Directions
from .steering import Shift as Shift
from .steering import fit_directions as fit_directions
from .steering import toward as toward
