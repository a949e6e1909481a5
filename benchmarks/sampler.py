"""How fast are data drawn? 100,000 strings of (32, m, 2, 8), against the same grammar sampled level by level in NumPy.

    python -m benchmarks.sampler [--json PATH]

m = 8 is packed exactly, ten choices to a random word; m = 7 takes the general path, four to a word.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case, arguments, compare, show
from hierarchical import RandomHierarchyModel, sample_strings, sample_trees

STRINGS = 100_000


def numpy_loop(rules: list[np.ndarray], seed: int) -> np.ndarray:
    """One level after the other, a gather each: the version to beat."""
    random = np.random.default_rng(seed)
    symbols = random.integers(0, len(rules[0]), (STRINGS, 1))
    for table in rules:
        symbols = table[symbols, random.integers(0, table.shape[1], symbols.shape)].reshape(STRINGS, -1)
    return symbols


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    key, cases = jax.random.key(1), []
    for m in (8, 7):
        rhm = RandomHierarchyModel(32, m, 2, 8, key=jax.random.key(0))
        rules = [np.asarray(table) for table in rhm.rules]
        parse = jax.jit(jax.vmap(rhm.parse))

        def check(strings, parse=parse):
            tree = parse(jnp.asarray(strings[:2000], jnp.int32))
            assert tree.valid[0].all(), "a string outside the grammar"
            spread = np.bincount(tree.levels[0][:, 0], minlength=32) / 2000 - 1 / 32
            assert abs(spread).max() < 5 * (31 / 32**2 / 2000) ** 0.5, "the classes are not uniform"

        cases += [
            Case(f"m = {m} leaves", lambda r=rhm: sample_strings(key, r, STRINGS, dtype=jnp.int8), check),
            Case(
                f"m = {m} all levels",
                lambda r=rhm: sample_trees(key, r, STRINGS, dtype=jnp.int8).levels,
                lambda levels, c=check: c(levels[-1]),
            ),
            Case(f"m = {m} NumPy", lambda r=rules: numpy_loop(r, 1), check),
        ]
    rows = compare(cases, options.repeats)
    best = [row.best for row in rows]
    rates = [f"{STRINGS / seconds / 1e6:.2f}" for seconds in best]
    sentence = (
        f"Million strings a second, m = 8: {rates[0]} (leaves), {rates[1]} (all levels), NumPy {rates[2]}: "
        f"{best[2] / best[0]:.1f} and {best[2] / best[1]:.1f} times as fast; m = 7: {rates[3]}, {rates[4]}, NumPy "
        f"{rates[5]}: {best[5] / best[3]:.1f} and {best[5] / best[4]:.1f} times."
    )
    show(f"{STRINGS} strings of (32, m, 2, 8)", rows, sentence, options.json)


if __name__ == "__main__":
    main()
