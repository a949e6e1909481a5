"""How many forward-backward runs a second? Mask, denoise exactly, compare every level; (32, 8, 2, 9), masking.

    python -m benchmarks.forward_backward [--json PATH]

The plain version is the same experiment in NumPy, one datum at a time with whole levels as arrays: upward messages, a
draw of the tree from the root down, and the symbols compared. Its retention must agree with ours.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case, arguments, compare, show
from diffusion import Masking, forward_backward
from diffusion.measure import level_retention
from hierarchical import RandomHierarchyModel, sample_strings
from theory.exact import GrammarDenoiser

SIZES, TIME, RUNS, PLAIN_RUNS = (32, 8, 2, 9), 0.27, 2048, 200


def numpy_runs(rules: list[np.ndarray], strings: np.ndarray, seed: int) -> np.ndarray:
    """Retention of every level, root first, of each string."""
    random = np.random.default_rng(seed)
    return np.stack([_numpy_run(random, rules, leaves) for leaves in strings])


def _numpy_run(random: np.random.Generator, rules: list[np.ndarray], leaves: np.ndarray) -> np.ndarray:
    v, before = len(rules[0]), [leaves]
    for table in reversed(rules):  # the true tree
        codes = table @ [v, 1]
        pairs = before[0].reshape(-1, 2) @ [v, 1]
        order = np.argsort(codes.ravel())
        before.insert(0, order[np.searchsorted(codes.ravel()[order], pairs)] // table.shape[1])
    message = np.eye(v)[leaves]
    message[random.random(len(leaves)) < TIME] = 1
    weights = []
    for table in reversed(rules):
        weights.insert(0, message[0::2][:, table[..., 0]] * message[1::2][:, table[..., 1]])  # (nodes, v, m)
        message = weights[0].sum(2)
        message /= message.sum(1, keepdims=True)
    after = [np.array([_drawn(random, message)[0]])]
    for table, weight in zip(rules, weights, strict=True):
        rule = _drawn(random, weight[np.arange(len(weight)), after[-1]])
        after.append(table[after[-1], rule].reshape(-1))
    return np.array([np.mean(x == y) for x, y in zip(before, after, strict=True)])


def _drawn(random: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    cumulated = np.cumsum(weights, 1)
    return (cumulated <= random.random((len(weights), 1)) * cumulated[:, -1:]).sum(1)


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    rhm = RandomHierarchyModel(*SIZES, key=jax.random.key(0))
    process = Masking(rhm.num_symbols)
    exact, strings = GrammarDenoiser(rhm, process), sample_strings(jax.random.key(1), rhm, RUNS)
    rules, few = [np.asarray(table) for table in rhm.rules], np.asarray(strings[:PLAIN_RUNS])

    @jax.jit
    def ours(key):
        times = jnp.full(RUNS, TIME, jnp.float32)
        return level_retention(rhm, strings, forward_backward(key, exact, strings, times)[0])

    plain = numpy_runs(rules, few, 1)
    error = np.hypot(plain.std(0) / PLAIN_RUNS**0.5, plain.std(0) / RUNS**0.5)

    def check(retention):
        assert (abs(np.mean(retention, 0) - plain.mean(0)) <= 5 * error).all(), "retention differs from NumPy's"

    cases = [
        Case(f"phasetree, {RUNS} runs", lambda: ours(jax.random.key(2)), check),
        Case(f"NumPy, {PLAIN_RUNS} runs", lambda: numpy_runs(rules, few, 3), check),
    ]
    rows = compare(cases, min(options.repeats, 5))
    rate, plain_rate = RUNS / rows[0].best, PLAIN_RUNS / rows[1].best
    sentence = (
        f"{rate:.0f} forward-backward runs a second, NumPy {plain_rate:.0f}: {rate / plain_rate:.1f} times as fast."
    )
    show(f"forward-backward at (v, m, s, L) = {SIZES}, t = {TIME}", rows, sentence, options.json)


if __name__ == "__main__":
    main()
