"""How fast, and in how much memory, is the denoiser of a large training set? 100,000 points in 1000 dimensions.

    python -m benchmarks.empirical [--json PATH]

A row of the batch costs 4 n d operations, two products with the set. The script also reports the speed of a plain
product of two large matrices, and the peak memory of the process, the set's 400 MB included.
"""

import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case, arguments, compare, show
from diffusion import VectorProcess
from theory.exact.empirical import EmpiricalDenoiser

POINTS, DIMENSION, ROWS, SQUARE, TIME = 100_000, 1000, 256, 2048, 0.02  # at t = .02 several points have weight


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    denoiser = EmpiricalDenoiser(
        jax.random.normal(jax.random.key(0), (POINTS, DIMENSION), jnp.float32), VectorProcess()
    )
    noise = jax.random.normal(jax.random.key(1), (ROWS, DIMENSION), jnp.float32)
    t = jnp.full(ROWS, TIME, jnp.float32)
    x_t = jnp.exp(-TIME) * denoiser.data[:ROWS] + jnp.sqrt(-jnp.expm1(-2 * TIME)) * noise
    # the call is compiled with the set as an argument: as a constant it would be in memory twice
    mean = jax.jit(lambda denoiser, x_t, t: denoiser(x_t, t)).lower(denoiser, x_t, t).compile()
    square = jax.random.normal(jax.random.key(2), (SQUARE, SQUARE), jnp.float32)
    product = jax.jit(lambda a, b: jnp.matmul(a, b)).lower(square, square).compile()

    def check(got):
        """Four rows by NumPy in float64, block by block, so that the check adds little to the peak memory."""
        blocks = np.array_split(np.asarray(denoiser.data), 100)
        for row in range(0, ROWS, ROWS // 4):
            away = [((np.asarray(x_t[row], float) - np.exp(-TIME) * points) ** 2).sum(1) for points in blocks]
            exponents = -np.concatenate(away) / (2 * -np.expm1(-2 * TIME))
            weights = np.exp(exponents - exponents.max())
            parts = zip(np.array_split(weights, 100), blocks, strict=True)
            want = sum(part @ points for part, points in parts) / weights.sum()
            np.testing.assert_allclose(got[row], want, atol=1e-3)

    rows = compare(
        [
            Case(f"{ROWS} means over {POINTS} points in d = {DIMENSION}", lambda: mean(denoiser, x_t, t), check),
            Case(f"product of two {SQUARE} x {SQUARE} matrices", lambda: product(square, square)),
        ],
        options.repeats,
    )
    rates = 4 * ROWS * POINTS * DIMENSION / rows[0].best / 1e9, 2 * SQUARE**3 / rows[1].best / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    sentence = (
        f"{rates[0]:.0f} GFLOP/s, {rates[0] / rates[1]:.2f} of the {rates[1]:.0f} GFLOP/s of the plain product; the "
        f"program holds {mean.memory_analysis().temp_size_in_bytes / 1e9:.3f} GB beside the set, the process held at "
        f"most {memory:.2f} GB in memory."
    )
    show("The denoiser of a large training set", rows, sentence, options.json)


if __name__ == "__main__":
    main()
