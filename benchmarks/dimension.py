"""Ritz against normal bundle: the dimension of spheres in 1000 dimensions, exact scores, 8 data, float32.

    python -m benchmarks.dimension [--json PATH]

Both counts are checked before they are timed. Passes are scores of a datum, or derivatives of its score.
"""

import functools
import math

import jax
import jax.numpy as jnp

from benchmarks.harness import Case, arguments, compare, show
from diffusion import VarianceExploding, VectorProcess
from diffusion.measure import dimension
from hierarchical import Sphere
from theory.exact import SphereDenoiser

AMBIENT, NOISE = 1000, 0.01


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    key, t, rows, said = jax.random.key(0), math.log1p(NOISE**2) / 2, [], []
    for k in (10, 50):
        law = Sphere(jax.random.key(k), k, AMBIENT)
        exact = SphereDenoiser(law=law, process=VectorProcess(VarianceExploding()))
        x, probes = law.sample(jax.random.key(1), 8).x, 3 * k // 2 + 10
        ritz = functools.partial(dimension.ritz, key, exact, x, t, num_probes=probes)
        bundle = functools.partial(dimension.normal_bundle, key, exact, x, t)
        for call in (ritz, bundle):
            if not bool(jnp.all(call().value == k)):
                raise AssertionError(f"{call.func.__name__} gives {call().value}, not {k}")
        cases = [
            Case(f"ritz, k = {k}", lambda f=ritz: f().value),
            Case(f"normal bundle, k = {k}", lambda f=bundle: f().value),
        ]
        fast, slow = compare(cases, min(options.repeats, 5))
        rows += [fast, slow]
        said.append(
            f"k = {k}: {2 * AMBIENT / (2 * probes):.0f} times fewer passes, {slow.best / fast.best:.0f} times faster"
        )
    show("spheres in 1000 dimensions", rows, f"Ritz is exact with {'; '.join(said)}.", options.json)


if __name__ == "__main__":
    main()
