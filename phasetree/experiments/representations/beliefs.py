r"""What exact inference knows of every node, given what a network is given.

A causal network reads the sites up to each, and the states of a node are those of the sites below it. So what it can
know of node k at level l is the posterior by the sites up to the last one below the node, at which the prefix ends:

    last(l, k) = (k + 1) s^(L - l) - 1.                                                                            (1)

For other networks every prefix is the whole string.

A state that is moved is moved from what it was given: that of a site in a causal transformer the sites up to it, a
downward state of the tree U-Net the sites that are not below its node (`tree_unet.py`, equation (1)).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffusion.noise.process import AbstractTokenProcess
from hierarchical import RandomHierarchyModel
from theory import cavity_marginals, hard_evidence, local_marginals, marginals, upward_messages

Levels = list[Float[Array, "data _nodes v"]]


class Beliefs(NamedTuple):
    """Probabilities of the symbol of every node, level by level, root first."""

    posterior: Levels
    upward: Levels
    """By the evidence below a node: the messages that belief propagation sends upward, normalised."""
    cavity: Levels
    """By the evidence outside: those that it sends downward."""
    windows: Float[Array, "windows data leaves v"]
    """Of the leaves alone, by the evidence below their ancestor at each level."""


@eqx.filter_jit
def beliefs(
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    x_t: Int[Array, "data leaves"],
    t: Float[Array, ""],
    causal: bool,
) -> Beliefs:
    """All beliefs of noised strings, in float32."""
    evidence = _prefixes(process, x_t, t, causal)
    upward = [jax.nn.softmax(table) for table in upward_messages(rhm, evidence)]
    tables = [marginals(rhm, evidence), upward, cavity_marginals(rhm, evidence)]
    leaves = [_at_last([local_marginals(rhm, evidence, level)[-1]])[0] for level in range(rhm.depth + 1)]
    posterior, upward, cavity = (_at_last(list(table)) for table in tables)
    return Beliefs(posterior, upward, cavity, jnp.stack(leaves))


@eqx.filter_jit
def posteriors(
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    x_t: Int[Array, "data leaves"],
    t: Float[Array, "..."],
    causal: bool,
) -> Levels:
    """`Beliefs.posterior` alone; the last is that of every site, what a denoiser is asked for."""
    return _at_last(list(marginals(rhm, _prefixes(process, x_t, t, causal))))


@eqx.filter_jit
def forced_posterior(
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    x_t: Int[Array, "data leaves"],
    t: Float[Array, ""],
    causal: bool,
    level: int,
    forced: Int[Array, "data _nodes"],
) -> Float[Array, "data leaves v"]:
    """The sites' posterior if the nodes of a level are known to have these symbols; -1 for what is not known."""
    known = hard_evidence(forced, rhm.num_symbols).astype(t.dtype)
    tables = marginals(rhm, {level: known, rhm.depth: _prefixes(process, x_t, t, causal)})
    return _at_last([tables[-1]])[0]


@eqx.filter_jit
def ancestor_beliefs(
    rhm: RandomHierarchyModel,
    process: AbstractTokenProcess,
    x_t: Int[Array, "data leaves"],
    t: Float[Array, ""],
    kind: str,
    level: int,
    nodes: int,
) -> Float[Array, "data _nodes v"]:
    """Probabilities of the ancestor at a level of each node of a layer, by what the state of the node was given."""
    evidence = jax.vmap(process.log_likelihood)(x_t, jnp.broadcast_to(t, x_t.shape[:1]))
    seen = {"causal": np.tri, "transformer": lambda n: np.ones((n, n)), "tree": lambda n: 1 - np.eye(n)}[kind](nodes)
    seen = np.repeat(seen, x_t.shape[1] // nodes, 1) > 0  # (nodes, leaves)
    table = marginals(rhm, jnp.where(seen[:, None, :, None], evidence[None], 0.0))[level]
    own = np.arange(nodes) * table.shape[2] // nodes
    return jnp.moveaxis(table[np.arange(nodes), :, own], 0, 1)


def _prefixes(
    process: AbstractTokenProcess, x_t: Int[Array, "data leaves"], t: Float[Array, "..."], causal: bool
) -> Float[Array, "prefixes data leaves v"]:
    """Evidence of the sites up to each one, none to its right; or of all of them, once."""
    evidence = jax.vmap(process.log_likelihood)(x_t, jnp.broadcast_to(t, x_t.shape[:1]))
    if not causal:
        return evidence[None]
    seen = jnp.tri(x_t.shape[1], dtype=bool)
    return jnp.where(seen[:, None, :, None], evidence[None], 0.0)


def _at_last(tables: list[Float[Array, "prefixes data _nodes v"]]) -> Levels:
    """Of every node the belief by the prefix of equation (1)."""
    picked = []
    for table in tables:
        prefixes, nodes = table.shape[0], table.shape[2]
        last = (np.arange(nodes) + 1) * prefixes // nodes - 1 if prefixes > 1 else np.zeros(nodes, int)
        picked.append(jnp.moveaxis(table[last, :, np.arange(nodes)], 0, 1).astype(jnp.float32))
    return picked
