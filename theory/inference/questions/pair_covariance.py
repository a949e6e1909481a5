r"""How the symbols of two leaves vary together given the evidence, exactly.

The evidence e_i(x) of the leaves multiplies the prior of a string x_1 .. x_d by exp sum_i e_i(x_i): it is a natural
parameter of the posterior, with the indicators 1[x_i = x] as statistics. So their mean, which `marginals` returns, is
the gradient of ln p(y), and their covariance is the derivative of that mean,

    C_ix,jy  =  Cov(1[x_i = x], 1[x_j = y] | y)  =  d p(x_i = x | y) / d e_j(y).                                   (1)

A product C w is the derivative of the leaves' marginals in the direction w, and costs one upward and one downward sweep
with their tangents, whatever the number of leaves. The whole matrix is a product for each of its columns.

Of strings with Gaussian noise, x_t = alpha e_x + sigma z, the evidence has the derivative alpha / sigma^2 by x_t, so
that the Jacobian of the exact denoiser's mean is C alpha / sigma^2 (`diffusion.measure.field` takes it from any
denoiser). Source: derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from hierarchical import RandomHierarchyModel
from hierarchical.arguments import Given, as_numbers

from .. import logarithmic
from ..evidence import GivenEvidence, TreeEvidence, as_evidence, in_full, refuse_disallowed
from ..formulation import answered

GivenInFull = Float[Array, "*batch leaves v"] | TreeEvidence

AT_ONCE = 64  # columns of the matrix that are computed together


def posterior_covariance(
    rhm: RandomHierarchyModel, evidence: GivenEvidence
) -> Float[Array, "*batch leaves v leaves v"]:
    """Equation (1) of all pairs of leaves and symbols; symmetric, and zero where the evidence is impossible.

    It holds (leaves v)^2 numbers of each datum, for small grammars; `posterior_covariance_times` serves any size.

    Args:
      evidence: of any kind that `log_evidence` takes; symbols that it excludes by `-inf` have rows of zeros.

    Raises:
      ValueError: as `log_evidence`.
    """
    return _matrix(rhm, _checked(rhm, evidence))


def posterior_covariance_times(
    rhm: RandomHierarchyModel, evidence: GivenEvidence, vectors: Given
) -> Float[Array, "*batch leaves v"]:
    """C w, equation (1), of one vector w for each datum, without C.

    Args:
      evidence: as of `posterior_covariance`.
      vectors: (..., leaves, v), with the batch axes of the evidence or fewer.

    Raises:
      ValueError: as `log_evidence`, or if the vectors do not fit.
    """
    given = _checked(rhm, evidence)
    directions = as_numbers(vectors, given.dtype)
    axes = directions.ndim
    if axes < 2 or directions.shape != given.shape[len(given.shape) - axes :]:
        raise ValueError(f"vectors have shape {directions.shape}, the evidence {given.shape}: give one for each datum")
    return _times(rhm, given, jnp.broadcast_to(directions, given.shape))


def _checked(rhm: RandomHierarchyModel, evidence: GivenEvidence) -> GivenInFull:
    given = in_full(as_evidence(evidence, rhm))
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
        refuse_disallowed(given)
    return given


@eqx.filter_jit
def _matrix(rhm: RandomHierarchyModel, given: GivenInFull) -> Float[Array, "*batch leaves v leaves v"]:
    leaves, v = given.shape[-2:]
    units = jnp.eye(leaves * v, dtype=given.dtype).reshape(-1, leaves, v)

    def column(unit: Float[Array, "leaves v"]) -> Float[Array, "*batch leaves v"]:
        return _times(rhm, given, jnp.broadcast_to(unit, given.shape))

    columns = jax.lax.map(column, units, batch_size=min(AT_ONCE, len(units)))  # (leaves v, ..., leaves, v)
    return jnp.moveaxis(columns, 0, -1).reshape(*given.shape, leaves, v)


@eqx.filter_jit
def _times(
    rhm: RandomHierarchyModel, given: GivenInFull, directions: Float[Array, "*batch leaves v"]
) -> Float[Array, "*batch leaves v"]:
    def of_leaves(logs: Float[Array, "*batch leaves v"]) -> Float[Array, "*batch leaves v"]:
        moved = eqx.tree_at(lambda e: e.leaves, given, logs) if isinstance(given, TreeEvidence) else logs
        return answered(None, logarithmic.marginals, rhm, moved)[-1]

    logs = given.leaves if isinstance(given, TreeEvidence) else given
    return jax.jvp(of_leaves, (logs,), (directions,))[1]
