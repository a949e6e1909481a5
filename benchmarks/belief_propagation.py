"""How fast is exact inference? Evidence in, marginals of every level out, float32, against a plain JAX version.

    python -m benchmarks.belief_propagation [--json PATH]

The plain version is linear sum-product as one would first write it: batch first, a gather over all rules, a
segment_sum back. It is right only for mild evidence; ours keeps logarithms and is right for any.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case, arguments, compare, show
from hierarchical import RandomHierarchyModel
from theory import batched_marginals

SIZES = {"S": (8, 4, 2, 4), "M": (16, 8, 2, 8), "Q": (24, 6, 4, 5), "Lg": (32, 8, 2, 10)}
BATCH = 64


@jax.jit
def plain_marginals(rhm: RandomHierarchyModel, likelihoods):
    """Linear sum-product, (batch, nodes, symbols), uniform rules: the version to beat."""
    up, shape = [likelihoods], likelihoods.shape
    for rules in reversed(rhm.rules):
        children = up[0].reshape(shape[0], -1, rules.shape[2], up[0].shape[-1])
        weights = jnp.prod(jnp.stack([children[:, :, j, rules[..., j]] for j in range(rules.shape[2])]), 0)
        message = weights.sum(-1)
        up.insert(0, message / message.sum(-1, keepdims=True))
    down, tables = jnp.ones_like(up[0]), [up[0]]
    for rules, below in zip(rhm.rules, up[1:], strict=True):
        s, v = rules.shape[2], below.shape[-1]
        children = below.reshape(shape[0], -1, s, v)
        gathered = [children[:, :, j, rules[..., j]] for j in range(s)]
        sent = []
        for j in range(s):
            terms = down[..., None] * jnp.prod(jnp.stack([gathered[i] for i in range(s) if i != j]), 0)
            flat = terms.reshape(*terms.shape[:2], -1).transpose(2, 0, 1)
            sent.append(jax.ops.segment_sum(flat, rules[..., j].reshape(-1), v).transpose(1, 2, 0))
        down = jnp.stack(sent, 2).reshape(below.shape)
        down = down / down.sum(-1, keepdims=True)
        table = down * below
        tables.append(table / table.sum(-1, keepdims=True))
    return tables


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    rows, ratios = [], []
    for name, sizes in SIZES.items():
        rhm = RandomHierarchyModel(*sizes, key=jax.random.key(0))
        evidence = jax.random.normal(jax.random.key(1), (BATCH, rhm.num_leaves, rhm.num_symbols), jnp.float32)
        likelihoods = jnp.exp(evidence)
        want = [np.asarray(table) for table in plain_marginals(rhm, likelihoods)]

        def check(tables, want=want):
            for got, table in zip(tables, want, strict=True):
                np.testing.assert_allclose(got, table, atol=1e-4)

        ours = Case(f"{name} {sizes} phasetree", lambda r=rhm, e=evidence: batched_marginals(r, e), check)
        plain = Case(f"{name} {sizes} plain JAX", lambda r=rhm, p=likelihoods: plain_marginals(r, p), check)
        measured = compare([ours, plain], options.repeats)
        rows += measured
        ratios.append(f"{name} {measured[1].best / measured[0].best:.2f}")
    sentence = (
        f"Batches of {BATCH}: plain JAX takes {', '.join(ratios)} times as long as phasetree's batched_marginals."
    )
    show("belief propagation, all marginals", rows, sentence, options.json)


if __name__ == "__main__":
    main()
