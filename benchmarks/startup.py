"""How long until the first answer? A fresh process draws a grammar and computes all marginals of 64 data.

    python -m benchmarks.startup [--json PATH]

Cold: with an empty compilation cache. Warm: a later process, with the cache that the first process filled; the median
of `--repeats`. Imports alone are timed in a process of their own.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Row, arguments, show

IMPORT = "from hierarchical import RandomHierarchyModel; from theory import marginals"
FIRST_ANSWER = """
import jax
import jax.numpy as jnp
from hierarchical import RandomHierarchyModel
from theory import marginals

rhm = RandomHierarchyModel(32, 8, 2, {depth}, key=jax.random.key(0))
tables = marginals(rhm, jnp.zeros((64, rhm.num_leaves, 32), jnp.float32))
assert abs(float(tables[0].sum()) - 64) < 1e-3
"""


def seconds(program: str, cache: str) -> float:
    """Wall time of a fresh interpreter that runs `program`."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **settings})
    return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    rows = []
    for name, program in {
        "imports": IMPORT,
        "first marginals, L = 6": FIRST_ANSWER.format(depth=6),
        "first marginals, L = 10": FIRST_ANSWER.format(depth=10),
    }.items():
        with tempfile.TemporaryDirectory() as cache:
            cold = seconds(program, cache)
            warm = [seconds(program, cache) for _ in range(options.repeats)]
        rows.append(Row(name, cold, min(warm), statistics.median(warm)))
    last = rows[-1]
    sentence = (
        f"A fresh process answers in {last.median:.1f} s with a warm cache, in {last.compile_and_first:.1f} s with a "
        "cold cache."
    )
    show("fresh process to first answer, (32, 8, 2, L), batch 64", rows, sentence, options.json)


if __name__ == "__main__":
    main()
