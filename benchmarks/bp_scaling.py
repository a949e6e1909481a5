"""Is the cost of exact inference linear in the length of the string? All marginals, (16, 4, 2, L), 2^L leaves.

    python -m benchmarks.bp_scaling [--json PATH]

Every case has 2^20 leaves in all: 2^(20 - L) data of 2^L leaves, down to a single datum of a million. The script
reports nanoseconds per leaf, and the memory that the compiled program takes beside evidence and result, over that of
one set of messages. The first call's time excludes compilation.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case, arguments, compare, show
from hierarchical import RandomHierarchyModel
from theory.inference import logarithmic
from theory.inference.fast import sweep

LEAVES, DEPTHS = 2**20, (6, 8, 10, 12, 14, 16, 18, 20)


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    cases, memory = [], []
    for depth in DEPTHS:
        rhm = RandomHierarchyModel(16, 4, 2, depth, key=jax.random.key(0))
        shape = LEAVES // rhm.num_leaves, rhm.num_leaves, 16
        evidence = jax.random.normal(jax.random.key(1), shape, jnp.float32)

        def check(tables, rhm=rhm, evidence=evidence):
            some = slice(0, max(1, 2**12 // rhm.num_leaves))
            want = jax.jit(logarithmic.marginals)(rhm, evidence[some])
            for got, table in zip(tables, want, strict=True):
                np.testing.assert_allclose(got[some], table, atol=1e-4)

        program = jax.jit(sweep.marginals).lower(rhm, evidence).compile()
        cases.append(Case(f"L = {depth}, {shape[0]} data", lambda p=program, r=rhm, e=evidence: p(r, e)[0], check))
        messages = shape[0] * sum(rhm.num_nodes) * 16 * 4
        memory.append(program.memory_analysis().temp_size_in_bytes / messages)
    rows = compare(cases, min(options.repeats, 5))
    each = [f"{1e9 * row.best / LEAVES:.0f}" for row in rows]
    sentence = (
        f"Nanoseconds per leaf at L = {', '.join(map(str, DEPTHS))}: {', '.join(each)}; memory beside evidence and "
        f"result, over that of all messages: {', '.join(f'{ratio:.2f}' for ratio in memory)}."
    )
    show(f"{LEAVES} leaves as strings of 2^L", rows, sentence, options.json)


if __name__ == "__main__":
    main()
