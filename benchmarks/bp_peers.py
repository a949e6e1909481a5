"""How fast are other programs? Marginals of every node of 64 data, float32; each program is checked first.

    python -m benchmarks.bp_peers [--limit SCRIPT] [--sizes S,M,Q,Lg] [--json PATH]

NumPy's recursion and the plain JAX version always run. PGMax (loopy belief propagation in log space, exact on a tree
after 2 L sweeps; all data at once under vmap) and pgmpy (a clique tree, one datum at a time, size S only) run where
`pip install "phasetree[peers]"` has installed them; the C++ loop if its script is named. Pin the process to a core.
"""

import argparse
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.belief_propagation import BATCH, SIZES, limit_seconds, plain_marginals
from benchmarks.harness import Case, Row, arguments, compare, show
from hierarchical import RandomHierarchyModel
from theory import marginals


def numpy_marginals(rules: list[np.ndarray], likelihoods: np.ndarray) -> list[np.ndarray]:
    """Linear sum-product with the batch innermost, uniform rules: (batch, nodes, v) for every level, root first."""
    up = [np.ascontiguousarray(likelihoods.transpose(1, 2, 0))]  # (nodes, v, batch)
    for table in reversed(rules):
        children = up[0].reshape(-1, table.shape[2], *up[0].shape[1:])
        total = 0
        for slot in np.moveaxis(table, 1, 0):  # (v, s)
            total = total + functools.reduce(np.multiply, [children[:, j, slot[:, j]] for j in range(table.shape[2])])
        up.insert(0, total / total.sum(1, keepdims=True))
    down, tables = np.ones_like(up[0]), [up[0]]
    for table, below in zip(rules, up[1:], strict=True):
        children = below.reshape(-1, table.shape[2], *below.shape[1:])
        sent = np.zeros_like(children)
        for parent, tuples in enumerate(table):
            for symbols in tuples:
                for j, symbol in enumerate(symbols):
                    term = down[:, parent]
                    for i, other in enumerate(symbols):
                        if i != j:
                            term = term * children[:, i, other]
                    sent[:, j, symbol] += term
        down = sent.reshape(below.shape)
        down /= down.sum(1, keepdims=True)
        joint = down * below
        tables.append(joint / joint.sum(1, keepdims=True))
    return [table.transpose(2, 0, 1) for table in tables]


def pgmax_marginals(rules: list[np.ndarray]):
    """A compiled function of the evidence, (batch, leaves, v) -> marginals of every level."""
    import jax.extend
    import jax.lib

    if not hasattr(jax.lib, "xla_bridge"):  # PGMax 0.6.1 was written for a JAX that had it
        jax.lib.xla_bridge = jax.extend.backend  # pyright: ignore[reportAttributeAccessIssue]
    from pgmax import fgraph, fgroup, infer, vgroup

    branching, depth = rules[0].shape[2], len(rules)
    sizes = [len(table) for table in rules] + [int(rules[-1].max()) + 1]
    levels = [vgroup.NDVarArray(num_states=size, shape=(branching**level,)) for level, size in enumerate(sizes)]
    graph = fgraph.FactorGraph(levels)
    for above, below, table in zip(levels, levels[1:], rules, strict=False):
        parents = np.repeat(np.arange(len(table)), table.shape[1])[:, None]
        graph.add_factors(
            fgroup.EnumFactorGroup(
                variables_for_factors=[
                    [above[node], *(below[branching * node + j] for j in range(branching))]
                    for node in range(above.shape[0])
                ],
                factor_configs=np.concatenate([parents, table.reshape(-1, branching)], 1),
            )
        )
    inferer = infer.build_inferer(graph.bp_state, backend="bp")

    def one(evidence):
        start = inferer.init(evidence_updates={levels[-1]: evidence})
        end = inferer.run(start, num_iters=2 * depth, damping=0.0, temperature=1.0)
        tables = infer.get_marginals(inferer.get_beliefs(end))
        return [tables[level] for level in levels]

    return jax.jit(jax.vmap(one))


def pgmpy_marginals(rules: list[np.ndarray], likelihoods: np.ndarray) -> list[np.ndarray]:
    """Marginals of one datum, whose likelihoods are (leaves, v)."""
    from pgmpy.factors.discrete import DiscreteFactor
    from pgmpy.inference import BeliefPropagation
    from pgmpy.models import DiscreteMarkovNetwork

    branching, model = rules[0].shape[2], DiscreteMarkovNetwork()
    for level, table in enumerate(rules):
        v, m, s = table.shape
        allowed = np.zeros((v,) * (s + 1))
        allowed[(np.repeat(np.arange(v), m), *table.reshape(-1, s).T)] = 1
        for node in range(branching**level):
            names = [(level, node), *((level + 1, branching * node + j) for j in range(s))]
            model.add_edges_from([(a, b) for i, a in enumerate(names) for b in names[i + 1 :]])
            model.add_factors(DiscreteFactor(names, allowed.shape, allowed))
    for site, weights in enumerate(likelihoods):
        model.add_factors(DiscreteFactor([(len(rules), site)], [len(weights)], weights))
    inference = BeliefPropagation(model)
    inference.calibrate()
    tables = []
    for level in range(len(rules) + 1):
        queries = [inference.query([(level, node)], show_progress=False) for node in range(branching**level)]
        tables.append(np.stack([query.values for query in queries]))
    return tables


def chosen_sizes(given: str) -> list[str]:
    names = given.split(",")
    if unknown := set(names) - set(SIZES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose among {', '.join(SIZES)}")
    return names


def main() -> None:
    options = arguments(
        __doc__.splitlines()[0],
        limit=(pathlib.Path, "script that times a C++ loop"),
        sizes=(chosen_sizes, f"which of {','.join(SIZES)}, separated by commas (default all)"),
    )
    rows, sentences = [], []
    for name in options.sizes or SIZES:
        measured = compare(_cases(name, SIZES[name]), min(options.repeats, 5))
        if options.limit:
            seconds = limit_seconds(options.limit, SIZES[name])
            measured.append(Row(f"{name} C++", 0.0, seconds, seconds))
        rows += measured
        ours = measured[0].best
        ratios = [f"{row.name.removeprefix(name + ' ')} {row.best / ours:.3g}" for row in measured[1:]]
        sentences.append(f"{name}: {', '.join(ratios)}")
    sentence = f"Time of others over phasetree's, batches of {BATCH}: {'; '.join(sentences)}."
    show("marginals of every node", rows, sentence, options.json)


def _cases(name: str, sizes: tuple[int, int, int, int]) -> list[Case]:
    rhm = RandomHierarchyModel(*sizes, key=jax.random.key(0))
    rules = [np.asarray(table) for table in rhm.rules]
    evidence = jax.random.normal(jax.random.key(1), (BATCH, rhm.num_leaves, rhm.num_symbols), jnp.float32)
    likelihoods = jnp.exp(evidence)
    host = np.asarray(likelihoods)
    want = [np.asarray(table) for table in plain_marginals(rhm, likelihoods)]

    def check(tables, count=BATCH):
        for got, table in zip(tables, want, strict=True):
            np.testing.assert_allclose(got, table[:count], atol=1e-3)

    cases = [
        Case(f"{name} phasetree", lambda: marginals(rhm, evidence), check),
        Case(f"{name} plain JAX", lambda: plain_marginals(rhm, likelihoods), check),
        Case(f"{name} NumPy", lambda: numpy_marginals(rules, host), check),
    ]
    if importlib.util.find_spec("pgmax"):
        peer = pgmax_marginals(rules)
        cases.append(Case(f"{name} PGMax", lambda: peer(evidence), check))
    if importlib.util.find_spec("pgmpy") and name == "S":

        def one():
            return [table[None] for table in pgmpy_marginals(rules, host[0])]

        cases.append(Case(f"{name} pgmpy, one datum", one, functools.partial(check, count=1)))
    return cases


if __name__ == "__main__":
    main()
