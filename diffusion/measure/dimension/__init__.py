"""The intrinsic dimension of data, read off any denoiser of arrays at a point and a noise time.

Each estimator takes (key, denoiser, x, t) and returns a `Dimension`, an estimate with flags: `pointwise` has those from
moments of the score, `spectral` those from its singular values or the Jacobian's. `noise_level` chooses the time.
`from_data` needs no denoiser, `of_strings` takes denoisers of strings, and `DiffusionDimension` is an estimator of
scikit-learn, imported when it is used.
"""

from typing import TYPE_CHECKING, Any

from .from_data import from_data as from_data
from .noise_level import Automatic as Automatic
from .noise_level import automatic as automatic
from .noise_level import curve as curve
from .pointwise import Dimension as Dimension
from .pointwise import dsm as dsm
from .pointwise import flipd as flipd
from .pointwise import trace as trace
from .spectral import normal_bundle as normal_bundle
from .spectral import ritz as ritz
from .spectral import spectrum as spectrum
from .strings import of_strings as of_strings

if TYPE_CHECKING:
    from .scikit import DiffusionDimension as DiffusionDimension


def __getattr__(name: str) -> Any:
    if name == "DiffusionDimension":
        from .scikit import DiffusionDimension

        return DiffusionDimension
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
