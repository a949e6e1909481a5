"""The stages of the experiment `memorisation`, and how they become one dataset.

landscape-exact, landscape-trained   the 1-Laplace around three Gaussian modes; train-modes is their network
shares                               detectors on scores that are in part the training set's
train                                the network of the images
images                               detectors on images
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float, Float32, Key

from diffusion import (
    AbstractDenoiser,
    Finite,
    Fresh,
    LogSNRSchedule,
    Preconditioned,
    TrainConfig,
    VarianceExploding,
    VectorMLP,
    VectorProcess,
    from_flax,
    train,
)
from diffusion.measure import memorisation
from diffusion.measure.memorisation import Detection
from diffusion.noise.gaussian import time_of_noise
from hierarchical import GaussianMixture, load_images, load_points
from phasetree.experiment import Inputs, Stage, Training
from phasetree.experiments.memorisation.config import Config
from phasetree.recipes.training import named_key
from theory.exact import BlendedDenoiser, EmpiricalDenoiser, MixtureDenoiser

PROCESS = VectorProcess(VarianceExploding())
SIDE, VARIANCE, RADIUS = 5.0, 0.1, 1.0  # of the three modes, and of the sphere around each place
MODES_NOISE = 0.1  # s, of which the modes' variance has its part
GRID = 41  # places along each side of the landscape
PLACES = {"mode": (0.0, 0.0), "midpoint": (SIDE / 2, 0.0), "centroid": (SIDE / 2, SIDE / 12**0.5)}
CORNERS = np.array([(0.0, 0.0), (SIDE, 0.0), (SIDE / 2, SIDE * 3**0.5 / 2)])
AMBIENT, SPAN, COUNT, SPREAD = 64, 16, 100, 2.0  # d, k, members and others, standard deviation of the mixed scores' law
SHARE_NOISES = 0.1, 0.3, 0.6
PROBED = 128  # numbers of an image above which FLIPD's trace is probed


class Planted(NamedTuple):
    """Images, or rows, in units of the standard deviation of their numbers, and which the network sees how often."""

    members: Float32[np.ndarray, "n d"]
    planted: Float32[np.ndarray, "p d"]
    others: Float32[np.ndarray, "n d"]
    copies: int

    @property
    def training(self) -> Float32[np.ndarray, "m d"]:
        return np.concatenate([self.members, np.repeat(self.planted, self.copies, 0)])


def plan(config: Config) -> list[Stage]:
    """The network of the images, which refuses what they do not allow; three modes, mixed scores, images."""
    return [
        Stage("train", trained, units=20),
        Stage("landscape-exact", landscape),
        Stage("train-modes", trained_on_modes, units=4),
        Stage("landscape-trained", landscape, ("train-modes",), options={"network": "train-modes"}),
        Stage("shares", shares, units=6),
        Stage("images", images, ("train",), units=4),
    ]


def collect(config: Config, results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """One dataset.

    Returns:
      The 1-Laplace `landscape` for every `denoiser` (exact, trained) at places (`y`, `x`), and its value at three of
      them, `flux` for every `place`; `share_auc` of every `detector`, share, noise (`share_noise`) and `repeat`; of the
      images `auc` and the fraction found at 1% of false positives, `found`, with errors, for every `noise`, `group`
      (members, planted) and `detector`; the training loss.
    """
    kinds = xr.Variable("denoiser", ["exact", "trained"])
    fluxes = xr.concat([results["landscape-exact"], results["landscape-trained"]], kinds)
    loss = results["train"].loss
    return xr.merge([fluxes, results["shares"], results["images"], loss], join="exact")


def modes() -> GaussianMixture:
    """The paper's: corners of a triangle of side 5, covariance .1 with the noise at which it is looked at."""
    variance = VARIANCE - MODES_NOISE**2
    return GaussianMixture(jnp.ones(3), jnp.asarray(CORNERS, jnp.float32), jnp.asarray(variance, jnp.float32))


def trained_on_modes(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """The network of the three modes."""
    network = VectorMLP(2, config.width, rngs=nnx.Rngs(named_key(key, "modes", 0)))
    denoiser = from_flax(network, PROCESS, (2,), parametrisation=Preconditioned(SIDE / 2))
    training = TrainConfig(steps=config.modes_steps, batch_size=512)
    result = train(
        named_key(key, "train-modes", 0), denoiser, Fresh(modes()), training,
        schedule=LogSNRSchedule(time_of_noise(MODES_NOISE / 2), time_of_noise(2 * SIDE)), folder=inputs.folder,
        report=inputs.training(training),
    )  # fmt: skip
    return Training(result.denoiser, xr.Dataset({"loss": ("step", np.asarray(result.losses))}))


def landscape(config: Config, key: Key[Array, ""], inputs: Inputs, *, network: str | None = None) -> xr.Dataset:
    """The 1-Laplace flux through circles of radius 1, on a grid and at three places."""
    exact = MixtureDenoiser(mixture=modes(), process=PROCESS)
    denoiser = inputs[network].model if network else exact
    x, y = (np.linspace(-2.5, SIDE + 2.5, GRID), np.linspace(-2.5, SIDE + 2, GRID))
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2), jnp.float32)
    flux_key = named_key(key, "landscape", network is not None)
    time = time_of_noise(MODES_NOISE)
    found = memorisation.p_laplace(flux_key, denoiser, grid, time, radius=RADIUS, num_pairs=256)
    places = jnp.asarray(list(PLACES.values()), jnp.float32)
    at = memorisation.p_laplace(jax.random.fold_in(flux_key, 1), denoiser, places, time, radius=RADIUS, num_pairs=4096)
    inputs.advance()
    return xr.Dataset(
        {
            "landscape": (("y", "x"), np.asarray(found.value).reshape(GRID, GRID)),
            "flux": ("place", np.asarray(at.value)),
            "flux_stderr": ("place", np.asarray(at.stderr)),
        },
        {"x": x, "y": y, "place": list(PLACES)},
    )


def shares(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Detectors on 100 training data and 100 others of a Gaussian on 16 of 64 dimensions."""
    tables: list[np.ndarray] = []
    names: list[str] = []
    for repeat in range(config.num_repeats):
        data_key, detect_key = jax.random.split(named_key(key, "shares", repeat))
        variances = SPREAD**2 * (jnp.arange(AMBIENT) < SPAN)[None].astype(jnp.float32)
        law = GaussianMixture(jnp.ones(1), jnp.zeros((1, AMBIENT)), variances)
        members, others = law.sample(data_key, (2, COUNT)).x
        exact, empirical = MixtureDenoiser(mixture=law, process=PROCESS), EmpiricalDenoiser(members, PROCESS)
        table = [
            [_rates(_detected(config, detect_key, exact, empirical, share, members, others, s)) for s in SHARE_NOISES]
            for share in config.shares
        ]
        tables.append(np.array([[list(row.values()) for row in rows] for rows in table]))
        names = list(table[0][0])
        inputs.advance(inputs.units / config.num_repeats, f"repeat {repeat + 1}")
    dims = ("repeat", "share", "share_noise", "detector")
    coordinates = {"share": list(config.shares), "share_noise": list(SHARE_NOISES), "detector": names}
    return xr.Dataset({"share_auc": (dims, np.stack(tables))}, coordinates)


def _detected(
    config: Config,
    key: Key[Array, ""],
    exact: AbstractDenoiser,
    empirical: AbstractDenoiser,
    share: float,
    members: Float[Array, "n d"],
    others: Float[Array, "n d"],
    s: float,
) -> Detection:
    blend = BlendedDenoiser(exact, empirical, share)
    return memorisation.detect(
        jax.random.clone(key), blend, members, others, time_of_noise(s), num_pairs=config.num_pairs
    )


def _rates(found: Detection) -> dict[str, float]:
    return {name: float(detector.auc.value) for name, detector in found.detectors.items()}


def planted_images(config: Config, key: Key[Array, ""]) -> Planted:
    """The images, the same in every stage.

    Raises:
      FileNotFoundError, ValueError, ImportError: as `load_images` or `load_points`, or if there are too few different
        images.
    """
    pixels = load_images(config.images, config.side).pixels if config.file is None else load_points(config.file)
    rows = np.unique(pixels.reshape(len(pixels), -1), axis=0)  # none is both seen and not seen
    wanted, what = 2 * config.num_train, "images" if config.file is None else "rows"
    if len(rows) < wanted:
        raise ValueError(
            f"{str(config.source)!r} has {len(rows)} different {what}, num_train = {config.num_train} and as many "
            f"others are asked for: lower num_train to {len(rows) // 2}"
        )
    rows = rows[np.asarray(jax.random.permutation(named_key(key, "images", 0), len(rows)))[:wanted]]
    rows = (rows - rows.mean(0)) / rows.std()
    seen, others = np.split(rows.astype(np.float32), 2)
    return Planted(seen[config.num_planted :], seen[: config.num_planted], others, config.copies)


def trained(config: Config, key: Key[Array, ""], inputs: Inputs) -> Training:
    """A network trained on few images for long."""
    data = planted_images(config, key)
    d = data.members.shape[1]
    network = VectorMLP(d, config.width, rngs=nnx.Rngs(named_key(key, "network", 0)))
    denoiser = from_flax(network, PROCESS, (d,))
    result = train(
        named_key(key, "train", 0), denoiser, Finite(jnp.asarray(data.training)), config.train,
        schedule=LogSNRSchedule(time_of_noise(min(config.noises) / 2), time_of_noise(20.0)), folder=inputs.folder,
        report=inputs.training(config.train),
    )  # fmt: skip
    attributes = {"long_name": "training loss", "units": "squared error of a number of variance 1"}
    return Training(result.denoiser, xr.Dataset({"loss": ("step", np.asarray(result.losses), attributes)}))


def images(config: Config, key: Key[Array, ""], inputs: Inputs) -> xr.Dataset:
    """Every detector at every noise, on images seen once and on those planted, each against others."""
    data = planted_images(config, key)
    groups = {"members": data.members, "planted": data.planted}
    probes = None if data.members.shape[1] <= PROBED else 64
    values: dict[str, list] = {f"{name}{part}": [] for name in ("auc", "found") for part in ("", "_stderr")}
    names: list[str] = []
    for number, s in enumerate(config.noises):
        for group in groups.values():
            detect_key = named_key(key, "detect", number)
            found = memorisation.detect(
                detect_key, inputs["train"].model, group, data.others, time_of_noise(s), num_pairs=config.num_pairs,
                num_probes=probes,
            )  # fmt: skip
            names = list(found.detectors)
            for name, column in (("auc", "auc"), ("found", "true_positive_rate")):
                rates = [getattr(detector, column) for detector in found.detectors.values()]
                values[name].append([float(rate.value) for rate in rates])
                values[f"{name}_stderr"].append([float(rate.stderr) for rate in rates])
        inputs.advance(inputs.units / len(config.noises))
    shape = (len(config.noises), len(groups), len(names))
    table = {name: (("noise", "group", "detector"), np.reshape(rows, shape)) for name, rows in values.items()}
    return xr.Dataset(table, {"noise": list(config.noises), "group": list(groups), "detector": names})


def predicted_flux(place: Float[np.ndarray, "2"]) -> float:
    """The 1-Laplace of the three modes at a place, by quadrature over the circle."""
    angle = 2 * np.pi * (np.arange(20_000) + 0.5) / 20_000
    outward = np.stack([np.cos(angle), np.sin(angle)], -1)
    away = place + RADIUS * outward
    exponents = -((away[:, None] - CORNERS[None]) ** 2).sum(-1) / (2 * VARIANCE)
    weights = np.exp(exponents - exponents.max(1, keepdims=True))
    score = (weights / weights.sum(1, keepdims=True)) @ CORNERS - away
    return float(-np.mean((score * outward).sum(1) / np.linalg.norm(score, axis=1)))
