"""How fast does a population of messages evolve? (32, 8, 2) under masking, eight noise levels at once.

    python -m benchmarks.density_evolution [--json PATH]

The plain version is the same population program in NumPy, a table of rules at a time, with the noise levels as the last
axis. Both must agree on the overlap within their errors. A search for the threshold draws rules and parentage once and
evolves the population several times: so the script times both together, and the evolution alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case, arguments, compare, show
from diffusion import Masking
from theory import density_evolution
from theory.ensemble import population

GRAMMAR, DEPTH, POPULATION, RULE_SETS = (32, 8, 2), 12, 4096, 64
TIMES = np.linspace(0.1, 0.8, 8).astype(np.float32)


def numpy_overlap(seed: int) -> np.ndarray:
    """E u(0) of the root at each noise level."""
    random, (v, m, _) = np.random.default_rng(seed), GRAMMAR
    members, symbols = POPULATION // RULE_SETS, np.arange(v)
    hidden = random.random(POPULATION)[:, None] < TIMES
    messages = np.where(hidden[:, None], 1 / v, np.eye(v)[0][None, :, None]).astype(np.float32)  # truth is symbol 0
    for _ in range(DEPTH):
        left, right = (random.permutation(POPULATION).reshape(RULE_SETS, members) for _ in range(2))
        parents = []
        for first, second in zip(left, right, strict=True):
            pairs = np.stack(np.divmod(random.permutation(v * v)[: v * m], v))
            true_rule = random.integers(v * m, size=members)
            children = [
                messages[np.asarray(child)[:, None], (symbols - truth[:, None]) % v]
                for child, truth in zip((first, second), pairs[:, true_rule], strict=True)
            ]
            weights = children[0][:, pairs[0]] * children[1][:, pairs[1]]
            total = weights.reshape(members, v, m, -1).sum(2)
            truth = (symbols + true_rule[:, None] // m) % v
            parents.append(np.take_along_axis(total / total.sum(1, keepdims=True), truth[..., None], 1))
        messages = np.concatenate(parents)
    return messages[:, 0].mean(0)


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    process, times, key = Masking(GRAMMAR[0]), jnp.asarray(TIMES), jax.random.key(0)
    ancestry = jax.block_until_ready(population.draw_ancestry(key, *GRAMMAR, DEPTH, POPULATION, RULE_SETS))
    want = np.stack([numpy_overlap(seed) for seed in range(12)])
    error = want.std(0, ddof=1) + 1e-3  # of a single population, as ours is

    def check(overlap):
        np.testing.assert_array_less(abs(overlap - want.mean(0)), 5 * error)

    cases = [
        Case(
            "rules drawn, evolved",
            lambda: density_evolution.overlap(key, *GRAMMAR, process, times, DEPTH, POPULATION, RULE_SETS)[-1],
            check,
        ),
        Case("evolved", lambda: population.evolve(key, ancestry, process, times)[-1], check),
        Case("NumPy", lambda: numpy_overlap(9), check),
    ]
    rows = compare(cases, min(options.repeats, 5))
    rates = [DEPTH * POPULATION * len(TIMES) / row.best / 1e6 for row in rows]
    sentence = (
        f"Million messages of {GRAMMAR[0]} symbols a second: {rates[1]:.2f}, with rules drawn {rates[0]:.2f}, NumPy "
        f"{rates[2]:.2f}: {rates[1] / rates[2]:.1f} and {rates[0] / rates[2]:.1f} times as fast."
    )
    show(f"{POPULATION} messages, {DEPTH} levels of {GRAMMAR}, {len(TIMES)} noise levels", rows, sentence, options.json)


if __name__ == "__main__":
    main()
