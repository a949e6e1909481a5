"""Hidden levels of a hierarchy from its strings alone: tuples that behave alike are one symbol, level by level.

`statistics` says what is counted of a tuple, `clusters` who puts counts into groups, `levels` climbs the tree with
both, and `agreement` measures how good the result is, with the truth and without. `trees` scores any distances between
leaves, `hyperbolic` embeds them. No prediction is imported here.
"""

from .agreement import level_agreement as level_agreement
from .agreement import sibling_information as sibling_information
from .clusters import AbstractClustering as AbstractClustering
from .clusters import Factors as Factors
from .clusters import KMeans as KMeans
from .clusters import Mixture as Mixture
from .clusters import PMIEmbedding as PMIEmbedding
from .hyperbolic import Embedded as Embedded
from .hyperbolic import euclidean as euclidean
from .hyperbolic import hyperbolic as hyperbolic
from .levels import Recovered as Recovered
from .levels import recover as recover
from .statistics import AbstractStatistic as AbstractStatistic
from .statistics import Labels as Labels
from .statistics import SiblingLatents as SiblingLatents
from .statistics import SiblingTokens as SiblingTokens
from .statistics import SiblingTuples as SiblingTuples
from .statistics import Tuples as Tuples
from .trees import TreeScore as TreeScore
from .trees import leaf_distances as leaf_distances
from .trees import tree_score as tree_score
