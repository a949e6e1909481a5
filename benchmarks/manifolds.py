"""How far is the dimension of data alone from the truth? 24 manifolds, n = 2500, beside scikit-dimension's estimators.

    pip install scikit-dimension && python -m benchmarks.manifolds

The mean over the manifolds of |estimate / truth - 1|, with its error over three seeds. Some two minutes.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import skdim

from diffusion.measure import dimension, mean_estimate

BASELINES = ("GRIDE", "TwoNN", "MLE", "lPCA")
SEEDS = range(3)


def main() -> None:
    table: dict[str, list[float]] = {}
    for seed in SEEDS:
        for name, errors in _errors(seed).items():
            table.setdefault(name, []).append(float(np.mean(errors)))
    for name, errors in table.items():
        found = mean_estimate(jnp.asarray(errors))
        print(f"{name:10} {float(found.value):.4f} +- {float(found.stderr):.4f}")


def _errors(seed: int) -> dict[str, list[float]]:
    """Relative errors of every estimator, manifold by manifold."""
    found: dict[str, list[float]] = {}
    benchmark = skdim.datasets.BenchmarkManifolds(random_state=seed)
    for name, rows in benchmark.generate(n=2500).items():
        truth = benchmark.truth.loc[name, "Intrinsic Dimension"]
        values = {"from_data": float(dimension.from_data(jax.random.key(seed), rows).value)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            values |= {other: getattr(skdim.id, other)().fit(rows).dimension_ for other in BASELINES}
        for estimator, value in values.items():
            found.setdefault(estimator, []).append(abs(value / truth - 1))
    return found


if __name__ == "__main__":
    main()
