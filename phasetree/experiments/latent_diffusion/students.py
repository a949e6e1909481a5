"""A student of the probability flow on a tree of clusters: how much of the tree it keeps when it takes one step.

Noise is taken to data by the exact denoiser's flow, closely followed, by the same flow in few calls (`DDIM`, of whose n
calls the last is the mean at the end), and by the student in as many (`Renoised`). A datum is *inside* if its cluster's
centre is no farther than that of .99 of all data is; it is at the *same* node as the flow's end if their clusters have
the same ancestor at a level.
"""

import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Key
from scipy import stats

from diffusion import (
    DDIM,
    AdaptiveFlow,
    FlowEnd,
    Fresh,
    Preconditioned,
    ProbabilityFlow,
    Renoised,
    TrainConfig,
    VectorMLP,
    VectorProcess,
    from_flax,
    train,
)
from diffusion.noise.schedule import LogSNRSchedule
from hierarchical import TreeMixture, tree_mixture
from phasetree.experiment import Inputs
from phasetree.experiments.latent_diffusion.config import Config
from phasetree.recipes.training import named_key
from theory.exact import MixtureDenoiser

OFFSETS, DIMENSION, STD, WIDTH = (4.0, 2.0, 1.0), 8, 0.25, 128  # the tree's three levels, and the student
CALLS = (1, 2, 4, 8, 16)
SCHEDULE = LogSNRSchedule(0.001, 4.0)
SHARE = 0.99


def student(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """For the exact `flow` and the `student`: `inside` by number of `calls`, and `same` by level too.

    `inside_all` is the share inside of the flow closely followed.
    """
    tree = tree_mixture(named_key(key, "tree", 0), DIMENSION, OFFSETS, variance=STD**2)
    exact = MixtureDenoiser(mixture=tree.mixture, process=VectorProcess())
    scale = float(jnp.sqrt(jnp.mean(jnp.sum(tree.mixture.means**2, 1)) / DIMENSION + STD**2))
    network = VectorMLP(DIMENSION, WIDTH, rngs=nnx.Rngs(config.seed))
    training = TrainConfig(config.student_steps, batch_size=256, learning_rate=3e-3)
    made = train(
        named_key(key, "student", 0),
        from_flax(network, exact.process, (DIMENSION,), parametrisation=Preconditioned(scale)),
        Fresh(tree),
        training,
        teacher=FlowEnd(denoiser=exact, sampler=ProbabilityFlow(24, SCHEDULE.min_time)),
        schedule=SCHEDULE,
        report=inputs.training(training),
    )
    time = SCHEDULE.max_time
    start = exact.process.prior(named_key(key, "noise", 0), (config.num_points, DIMENSION), jnp.float32(time))
    ends = _clusters(tree, AdaptiveFlow(1e-5, SCHEDULE.min_time)(named_key(key, "end", 0), exact, start, time))

    def few(calls: int) -> dict[str, Float[Array, "n d"]]:
        flow = DDIM(calls - 1, SCHEDULE.min_time)(named_key(key, "flow", 0), exact, start, time) if calls > 1 else None
        again = Renoised(calls, SCHEDULE)(named_key(key, "student-noise", calls), made.denoiser, start, time)
        return {"flow": exact(start, time) if flow is None else flow, "student": again}

    parts: list[xr.Dataset] = []
    for calls in CALLS:
        drawn = few(calls)
        each = [_compared(tree, _clusters(tree, x), ends) for x in drawn.values()]
        parts.append(xr.concat(each, xr.Variable("sampler", list(drawn))))
    return xr.concat(parts, xr.Variable("calls", list(CALLS))).assign(inside_all=float(np.mean(ends[1])))


def _clusters(tree: TreeMixture, x: Float[Array, "n d"]) -> tuple[np.ndarray, np.ndarray]:
    """The nearest cluster of each datum, and whether it is inside."""
    squares = np.sum((np.asarray(x)[:, None] - np.asarray(tree.mixture.means)[None]) ** 2, -1)
    return squares.argmin(1), squares.min(1) < STD**2 * stats.chi2.ppf(SHARE, DIMENSION)


def _compared(tree: TreeMixture, made: tuple[np.ndarray, np.ndarray], ends: tuple) -> xr.Dataset:
    levels = range(1, len(OFFSETS) + 1)
    same = [np.mean(tree.ancestors(level)[made[0]] == tree.ancestors(level)[ends[0]]) for level in levels]
    return xr.Dataset({"inside": float(np.mean(made[1])), "same": ("tree_level", same)}, {"tree_level": list(levels)})
