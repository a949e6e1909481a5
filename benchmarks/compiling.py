"""How long does every operation of inference take to compile, and then to run? (32, 8, 2, 10), 64 data, float32.

    python -m benchmarks.compiling [--json PATH]

The first call is timed with nothing compiled before it, directly and inside a user's `jax.jit`, which compiles the fast
and the safe formulation; then the best of some calls more. Pin the process to a core, and set no compilation cache.
"""

import jax
import jax.numpy as jnp

import theory
from benchmarks.harness import Case, arguments, compare, show
from hierarchical import RandomHierarchyModel

OPERATIONS = {
    "log_evidence": (),
    "marginals": (),
    "cavity_marginals": (),
    "rule_counts": (),
    "posterior_entropy": (),
    "upward_messages": (),
    "local_marginals": (5,),
    "most_likely": (),
    "top_k": (2,),
    "count_derivations": (),
}


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    rhm = RandomHierarchyModel(32, 8, 2, 10, key=jax.random.key(0))
    evidence = jax.random.normal(jax.random.key(1), (64, rhm.num_leaves, 32), jnp.float32)
    key, rows = jax.random.key(2), []
    calls = {"posterior_sample": lambda e: theory.posterior_sample(key, rhm, e)}
    for name, extra in OPERATIONS.items():
        calls[name] = lambda e, name=name, extra=extra: getattr(theory, name)(rhm, e, *extra)
    for name, call in calls.items():
        for where, function in ((name, call), (f"{name} in jit", jax.jit(call))):
            jax.clear_caches()
            rows += compare([Case(where, lambda f=function: f(evidence))], min(options.repeats, 5))
    first = [f"{row.name} {row.compile_and_first:.1f}" for row in rows]
    show("(32, 8, 2, 10), 64 data", rows, f"Seconds to compile and call first: {', '.join(first)}.", options.json)


if __name__ == "__main__":
    main()
