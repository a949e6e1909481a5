"""How fast is exact inference? Evidence in, marginals of every level out, float32, against a plain JAX version.

    python -m benchmarks.belief_propagation [--limit bp_limit.py] [--guard RATIO] [--json PATH]

Each size is timed for 64 data, the largest also for a single datum. The plain version is the obvious linear
sum-product: batch first, a gather over all rules, a segment_sum back. It is right only for mild evidence. Ours is timed
as users get it, which is the formulation for this device where that is reliable and large enough, and in each of the
three formulations by name. `--limit` names
a script that times a C++ loop on the same sizes (`--v --m --s --L --batch`, one line of JSON with `min_ms`). Pin the
process to a core to compare with that. `--guard` times the largest size only, on one core, and fails if the plain
version takes less than RATIO times as long as ours.
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case, arguments, compare, show
from hierarchical import RandomHierarchyModel
from theory import marginals
from theory.inference.operation import FORMULATIONS

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
    options = arguments(
        __doc__.splitlines()[0],
        limit=(pathlib.Path, "script that times a C++ loop"),
        guard=(float, "least ratio of plain JAX to ours, at the largest size alone: else exit with 1"),
    )
    if options.guard is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, whatever the machine has
    rows, sentences = [], []
    all_cases = [*((name, BATCH) for name in SIZES), ("Lg", 1)]
    for name, batch in all_cases if options.guard is None else [("Lg", BATCH)]:
        rhm = RandomHierarchyModel(*SIZES[name], key=jax.random.key(0))
        evidence = jax.random.normal(jax.random.key(1), (batch, rhm.num_leaves, rhm.num_symbols), jnp.float32)
        likelihoods = jnp.exp(evidence)
        want = [np.asarray(table) for table in plain_marginals(rhm, likelihoods)]

        def check(tables, want=want):
            for got, table in zip(tables, want, strict=True):
                np.testing.assert_allclose(got, table, atol=1e-4)

        calls = {"phasetree": lambda r=rhm, e=evidence: marginals(r, e)}
        if options.guard is None:
            for form in FORMULATIONS:
                calls[form] = lambda r=rhm, e=evidence, form=form: marginals(r, e, formulation=form)
        calls["plain JAX"] = lambda r=rhm, p=likelihoods: plain_marginals(r, p)
        cases = [Case(f"{name} x {batch}, {who}", call, check) for who, call in calls.items()]
        measured = compare(cases, options.repeats)
        rows += measured
        ours, *others = [row.best for row in measured]
        ratios = [f"{who} {best / ours:.1f}" for who, best in zip(list(calls)[1:], others, strict=True)]
        if options.limit:
            ratios.append(f"C++ {limit_seconds(options.limit, SIZES[name], batch) / ours:.2f}")
        sentences.append(f"{name} x {batch}: {', '.join(ratios)}")
    sentence = f"Time of others over phasetree's marginals, size x batch: {'; '.join(sentences)}."
    meaning = ", ".join(f"{name} {sizes}" for name, sizes in SIZES.items())
    show(f"all marginals; (v, m, s, L): {meaning}", rows, sentence, options.json)
    if options.guard is not None and rows[-1].best < options.guard * rows[0].best:
        sys.exit(f"plain JAX takes only {rows[-1].best / rows[0].best:.1f} times as long, less than {options.guard}")


def limit_seconds(script: pathlib.Path, sizes: tuple[int, int, int, int], batch: int = BATCH) -> float:
    """Seconds of the C++ loop."""
    given = [word for name, size in zip("vmsL", sizes, strict=True) for word in (f"--{name}", str(size))]
    command = [sys.executable, str(script), *given, "--batch", str(batch)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])["min_ms"] / 1e3


if __name__ == "__main__":
    main()
