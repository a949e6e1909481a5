"""Symmetries of the data, read off any denoiser of arrays: which linear transformations leave the law as it is.

`lie` tells of given generators how much each is broken; `search` finds the generators that are broken least.
"""

from .lie import breaking as breaking
from .lie import lie_derivative as lie_derivative
from .search import UNBROKEN as UNBROKEN
from .search import UNBROKEN_SET as UNBROKEN_SET
from .search import Generators as Generators
from .search import principal_angles as principal_angles
from .search import search as search
from .search import search_rotations as search_rotations
