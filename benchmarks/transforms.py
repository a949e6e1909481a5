"""Is inference as fast inside a user's program as outside it? Called, compiled, mapped, differentiated; 64 data.

    python -m benchmarks.transforms [--sizes M,Q,Lg] [--json PATH]

Everything is float32; ratios are to the direct call of the same run: inside `jax.jit`, the function of one datum under
`jax.vmap`, and, beside the marginals, the gradient of ln p(y) with respect to the evidence and with respect to the
rules too. The gradient must be the posterior of the leaves. Pin the process to a core.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.belief_propagation import BATCH, SIZES
from benchmarks.harness import Case, arguments, compare, show
from hierarchical import RandomHierarchyModel
from theory import log_evidence, marginals, posterior_sample

RATIOS = {
    "marginals": ("marginals in jit", "marginals, one datum, mapped", "gradient of ln p(y)", "gradient, rules too"),
    "ln p(y)": ("ln p(y) in jit",),
    "samples": ("samples in jit",),
}


def cases(sizes: tuple[int, int, int, int]) -> list[Case]:
    """The direct calls and what is compared with them."""
    rhm = RandomHierarchyModel(*sizes, key=jax.random.key(0))
    rng = np.random.default_rng(0)
    evidence = jnp.asarray(rng.normal(size=(BATCH, rhm.num_leaves, rhm.num_symbols)), jnp.float32)
    log_probs = tuple(rhm.log_prob_of_rules(level) for level in range(rhm.depth))
    key, known = jax.random.key(1), marginals(rhm, evidence)[-1]

    def total(evidence, log_probs):
        rules = eqx.tree_at(lambda r: r.rule_log_probs, rhm, log_probs, is_leaf=lambda leaf: leaf is None)
        return log_evidence(rules, evidence).sum()

    def is_known(table):
        np.testing.assert_allclose(table, known, atol=1e-5)

    in_jit, evidence_in_jit, sample_in_jit = map(jax.jit, (marginals, log_evidence, posterior_sample))
    mapped = jax.jit(jax.vmap(marginals, (None, 0)))
    slope = jax.jit(jax.grad(lambda e: log_evidence(rhm, e).sum()))
    slopes = jax.jit(jax.grad(total, (0, 1)))
    return [
        Case("marginals", lambda: marginals(rhm, evidence)),
        Case("marginals in jit", lambda: in_jit(rhm, evidence), lambda tables: is_known(tables[-1])),
        Case("marginals, one datum, mapped", lambda: mapped(rhm, evidence), lambda tables: is_known(tables[-1])),
        Case("gradient of ln p(y)", lambda: slope(evidence), is_known),
        Case("gradient, rules too", lambda: slopes(evidence, log_probs), lambda both: is_known(both[0])),
        Case("ln p(y)", lambda: log_evidence(rhm, evidence)),
        Case("ln p(y) in jit", lambda: evidence_in_jit(rhm, evidence)),
        Case("samples", lambda: posterior_sample(key, rhm, evidence)),
        Case("samples in jit", lambda: sample_in_jit(key, rhm, evidence)),
    ]


def main() -> None:
    options = arguments(__doc__.splitlines()[0], sizes=(str, "of M, Q, Lg; all by default"))
    for name in (options.sizes or "M,Q,Lg").split(","):
        rows = compare(cases(SIZES[name]), options.repeats)
        best = {row.name: row.best for row in rows}
        ratios = [f"{case} {best[case] / best[of]:.2f}" for of, others in RATIOS.items() for case in others]
        sentence = f"Over the direct call of marginals, ln p(y) or samples: {', '.join(ratios)}."
        path = options.json and options.json.with_stem(f"{options.json.stem}-{name}")
        show(f"(v, m, s, L) = {SIZES[name]}, {BATCH} data", rows, sentence, path)


if __name__ == "__main__":
    main()
