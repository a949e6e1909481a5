"""The intrinsic dimension of data, read off any denoiser of arrays at a point and a noise time.

Each function takes (key, denoiser, x, t) and returns a `Dimension`, an estimate with flags; `pointwise` has estimates
from moments of the score, `spectral` those from its singular values or the Jacobian's.
"""

from .pointwise import Dimension as Dimension
from .pointwise import dsm as dsm
from .pointwise import flipd as flipd
from .pointwise import trace as trace
from .spectral import normal_bundle as normal_bundle
from .spectral import ritz as ritz
