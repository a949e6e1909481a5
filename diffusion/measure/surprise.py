r"""How surprised is a denoiser of masked strings? Scores of anomalies, from what it says of visible tokens.

By the chain rule in any order o of the sites of A, the tokens of A given those of B cost

    -ln p(x_A | x_B)  =  sum_k -ln p(x^{o_k} | x_B, x^{o_1} .. x^{o_{k-1}})      nats,                              (1)

and every term is one call of the denoiser, in which all sites that are not conditioned on are masked. What is masked in
the string itself is left out of both sets: it is summed over, not guessed. For the exact denoiser (1) is the same in
every order; the spread between orders tells by how much a trained one contradicts itself.

    visible_costs    A all visible sites, B none       the surprise of the string, -ln p(visible tokens)
    site_costs       A one site, B all others          which token does not fit: the cavity at its site
    cut_log_ratios   A a block, B all that is outside, and its parts A_j by themselves:

                     ln [ prod_j p(x_{A_j}) / p(x_A | x_B) ]                                                       (2)

(2) compares two explanations of a block: its parts were drawn independently, or the block as the rest of the string
makes likely. It asks for no rules, only for which sites a node of the tree has below it: if a rule is broken at a node
whose children are the parts, their symbols are independent of the rest, and nearly so of each other. The `logsumexp`
over nodes is a test of a rule broken at their level. It is not the optimal one: a denoiser of data weighs parts by how
often data have them.

Where examples of the anomaly can be had, a second denoiser is trained on them, and the difference of `visible_costs`
under both is the logarithm of the likelihood ratio, which is optimal. docs/anomalies.md compares all of these.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from hierarchical.arguments import AnyKey, Given, Whole, as_key, as_symbols, as_whole

from ..denoise.denoiser import AbstractDenoiser
from ..noise.process import batch_axes
from ..noise.strings import Masking

Sites = Bool[np.ndarray, "rows sites"]


class Costs(eqx.Module):
    """What tokens cost, and what they should: nats."""

    nats: Float[np.ndarray, "*batch orders"]
    """Equation (1); `inf` where the denoiser excludes a token."""
    expected: Float[np.ndarray, "*batch orders"]
    """The sum, over the same terms, of the entropy of what the denoiser says of the token. On data of the denoiser's
    own law the mean of `nats - expected` is 0, whatever is masked: how many tokens are visible no longer matters."""


def visible_costs(
    key: AnyKey, denoiser: AbstractDenoiser, x_t: Given, num_orders: Whole = 1, batch_size: Whole = 1024
) -> Costs:
    """-ln p of the visible tokens of each string, nats, in random orders of its sites; 0 where none is visible.

    The mean over orders bounds -ln of the mean probability from above. Costs as many calls as there are visible tokens.

    Args:
      denoiser: of `Masking`.
      x_t: strings (..., sites), the mask where nothing is seen.
      batch_size: strings at once.

    Raises:
      ValueError: if the denoiser undoes other noise, the strings are not of its length or hold another symbol, or a
        number is not positive.
    """
    rows, batch = _checked(denoiser, x_t)
    orders = as_whole("num_orders", num_orders, 1)
    repeated = np.repeat(rows, orders, 0)
    costs = _costs(key, denoiser, repeated, np.ones(repeated.shape, bool), np.zeros(repeated.shape, bool), batch_size)
    return Costs(*(part.reshape(*batch, orders) for part in costs))


def site_costs(denoiser: AbstractDenoiser, x_t: Given, batch_size: Whole = 1024) -> Float[np.ndarray, "*batch sites"]:
    """-ln p(token | all other visible tokens) of each site, nats; NaN at masked sites. One call for each site.

    Arguments and errors as of `visible_costs`.
    """
    rows, batch = _checked(denoiser, x_t)
    sites = rows.shape[1]
    one = np.tile(np.eye(sites, dtype=bool), (len(rows), 1))  # (rows * sites, sites)
    any_key = jax.random.key(0)  # one site has one order
    costs, _ = _costs(any_key, denoiser, np.repeat(rows, sites, 0), one, ~one, batch_size)
    visible = rows < denoiser.process.num_symbols
    return np.where(visible, costs.reshape(rows.shape), np.nan).reshape(*batch, sites)


def cut_log_ratios(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    x_t: Given,
    block: Whole,
    part: Whole,
    batch_size: Whole = 1024,
) -> Float[np.ndarray, "*batch blocks"]:
    """Equation (2) of each block of `block` neighbouring sites, cut into parts of `part` sites, nats.

    In a tree of s children a node of level l of `depth` has a block of s^(depth - l) sites, and parts of s^(depth - l -
    1). Each block is asked about twice, in one random order of its sites each. Under an exact denoiser a string that is
    impossible outside a block makes the block impossible too, `inf`, and NaN where a part is impossible by itself.
    Other arguments and errors as of `visible_costs`.

    Raises:
      ValueError: also if the string is not a whole number of blocks, or the block not one of two or more parts.
    """
    rows, batch = _checked(denoiser, x_t)
    sites, block, part = rows.shape[1], as_whole("block", block, 1), as_whole("part", part, 1)
    if sites % block or block % part or block == part:
        raise ValueError(
            f"blocks of {block} sites and parts of {part} in {sites} sites: each must divide the one above"
        )
    whole_key, part_key = jax.random.split(as_key(key))
    whole, parts = (_consecutive(sites, size) for size in (block, part))
    together = _of_sets(whole_key, denoiser, rows, whole, ~whole, batch_size)
    apart = _of_sets(part_key, denoiser, rows, parts, np.zeros_like(parts), batch_size)
    with np.errstate(invalid="ignore"):  # inf - inf: NaN, as said
        ratios = together - apart.reshape(len(rows), sites // block, block // part).sum(2)
    return ratios.reshape(*batch, -1)


def _consecutive(sites: int, size: int) -> Bool[np.ndarray, "sets sites"]:
    """The sets of `size` neighbouring sites."""
    return np.repeat(np.eye(sites // size, dtype=bool), size, 1)


def _of_sets(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    rows: Int[np.ndarray, "rows sites"],
    wanted: Bool[np.ndarray, "sets sites"],
    given: Bool[np.ndarray, "sets sites"],
    batch_size: Whole,
) -> Float[np.ndarray, "rows sets"]:
    """Equation (1) of the same sets for every row."""
    repeated = np.repeat(rows, len(wanted), 0)
    asked, known = (np.tile(sets, (len(rows), 1)) for sets in (wanted, given))
    return _costs(key, denoiser, repeated, asked, known, batch_size)[0].reshape(len(rows), -1)


def _checked(denoiser: AbstractDenoiser, x_t: Given) -> tuple[Int[np.ndarray, "rows sites"], tuple[int, ...]]:
    """Strings with one batch axis, and the batch axes that were given."""
    if not isinstance(denoiser.process, Masking):
        raise ValueError(f"the denoiser undoes {type(denoiser.process).__name__}: give one of Masking")
    tokens = as_symbols(x_t, denoiser.process.num_symbols, "x_t", masked=True)
    batch = batch_axes(tokens, denoiser.shape, "x_t")
    return np.asarray(tokens).reshape(-1, tokens.shape[-1]), batch


def _costs(
    key: AnyKey,
    denoiser: AbstractDenoiser,
    rows: Int[np.ndarray, "rows sites"],
    wanted: Sites,
    given: Sites,
    batch_size: Whole,
) -> Float[np.ndarray, "2 rows"]:
    """Equation (1) of each row and what is expected of it, nats; batches of equal size compile once."""
    size, total = as_whole("batch_size", batch_size, 1), len(rows)
    visible = rows < denoiser.process.num_symbols
    wanted, given = wanted & visible, given & visible
    steps = int(wanted.sum(1).max())
    size = min(size, total)

    def batches(array):
        return np.pad(array, ((0, -total % size), (0, 0)), mode="wrap").reshape(-1, size, array.shape[1])

    costs, number = [], -(-total // size)
    for k, x, a, b in zip(
        jax.random.split(as_key(key), number), batches(rows), batches(wanted), batches(given), strict=True
    ):
        costs.append(np.asarray(_batch_costs(k, denoiser, jnp.asarray(x), jnp.asarray(a), jnp.asarray(b), steps)))
    return np.concatenate(costs, 1)[:, :total]


@eqx.filter_jit
def _batch_costs(
    key: Key[Array, ""],
    denoiser: AbstractDenoiser,
    x: Int[Array, "batch sites"],
    wanted: Bool[Array, "batch sites"],
    given: Bool[Array, "batch sites"],
    steps: int,
) -> Float[Array, "2 batch"]:
    draws = jnp.where(wanted, jax.random.uniform(key, x.shape, jnp.float32), 2)
    rank = jnp.argsort(jnp.argsort(draws, -1), -1)  # of the wanted sites 0, 1, ..
    mask, row = jnp.int32(denoiser.process.num_symbols), jnp.arange(len(x))

    def cost(total, k):
        seen = given | (wanted & (rank < k))
        asked = wanted & (rank == k)
        t = 1 - jnp.mean(seen, -1, dtype=jnp.result_type(float))
        site, is_asked = jnp.argmax(asked, -1), jnp.any(asked, -1)
        log_probs = denoiser(jnp.where(seen, x, mask), t)[row, site]  # (batch, v)
        nats = -log_probs[row, jnp.where(is_asked, x[row, site], 0)]
        expected = jnp.sum(jax.scipy.special.entr(jnp.exp(log_probs)), -1)
        return total + jnp.where(is_asked[None], jnp.stack([nats, expected]), 0), None

    start = jnp.zeros((2, len(x)), jnp.result_type(float))
    return jax.lax.scan(cost, start, jnp.arange(steps))[0]
