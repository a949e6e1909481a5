"""The field of a denoiser around given points: its score, the derivatives of its mean, and what their spectra say.

`local` is the field itself, of which the estimators of other rooms are moments; `jacobian` and `stein` are spectra of
its derivative and of its score, the first by the products of `eigenpairs`.
"""

from .jacobian import LeadingPairs as LeadingPairs
from .jacobian import leading_pairs as leading_pairs
from .jacobian import subtree_level as subtree_level
from .jacobian import subtree_shares as subtree_shares
from .local import LocalField as LocalField
from .local import local_field as local_field
from .stein import SteinSubspace as SteinSubspace
from .stein import stein_subspace as stein_subspace
