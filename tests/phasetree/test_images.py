"""The experiment `images`: a whole small run, its control, and images without classes."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from diffusion import TrainConfig
from diffusion.measure import GridGeometry, bootstrap, connected_sums, susceptibility
from diffusion.networks.conv_unet import gathered
from hierarchical import Images
from phasetree.experiment import Inputs
from phasetree.experiments import images as experiment
from phasetree.experiments.images import analysis, stages
from phasetree.progress import Silent
from phasetree.recipes.vision import PreparedImages, patch_embedding
from phasetree.runner.run import execute

TINY = experiment.Config(
    patch=2,
    width=8,
    levels=1,
    square=2,
    train=TrainConfig(steps=20, batch_size=8, steps_per_chunk=10, steps_per_checkpoint=20),
    encoder_steps=40,
    noise_levels=(0.5, 1.0, 1.5),
    num_data=6,
    num_trajectories=4,
    sampler_steps=2,
)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Images of 7 x 8 pixels, bright above or below: two classes that any classifier separates."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=120)
    above = np.arange(7)[None, :, None] < 3
    pixels = np.where(above == labels[:, None, None], 0.9, 0.1) + 0.1 * rng.random((120, 7, 8))
    file = tmp_path_factory.mktemp("images") / "stripes.npz"
    np.savez(file, images=(200 * pixels).astype(np.uint8), labels=labels)
    return dataclasses.replace(TINY, images=file)


def finished(config, path):
    return execute("images", experiment, config, path)


@pytest.fixture(scope="module")
def whole(stripes, tmp_path_factory):
    return finished(stripes, tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_reports_changes_and_the_class(whole):
    dataset = whole.dataset
    assert dataset.sums.dims == ("t", "datum", "kind", "distance") and dataset.kept.dims == ("t", "datum")
    assert np.isfinite(dataset.sums).all() and dataset.sizes["row"] == dataset.sizes["column"] == 8  # padded
    assert whole.findings["accuracy"].value == 100
    assert ((dataset.regenerated >= 0) & (dataset.regenerated <= 1)).all()
    assert "the class is lost half-way at t = " in whole.report.closing
    assert "chi of the embedding above its control is largest" in whole.report.closing
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())


def test_a_run_without_classes_says_so(whole):
    plain = whole.dataset.drop_vars(["kept", "accuracy", "accuracy_stderr"]).assign_attrs(num_classes=0)
    findings = experiment.analyse(plain)
    report = experiment.tell(plain, findings).markdown()
    assert "the embedding is an auto-encoder's" in report and "class is lost" not in report
    assert experiment.draw(plain, findings).axes


@pytest.mark.slow
def test_images_without_classes_are_embedded_by_an_auto_encoder(tmp_path):
    """Few numbers distinguish patches that are one of two patterns: the error falls far below their variance."""
    rng = np.random.default_rng(1)
    patterns = rng.normal(size=(2, 2, 2, 1)).astype(np.float32)
    squares = patterns[rng.integers(2, size=(200, 3, 3))]  # n, rows, columns, 2, 2, 1
    pixels = squares.transpose(0, 1, 3, 2, 4, 5).reshape(200, 6, 6, 1)
    inputs = Inputs({}, tmp_path / "checkpoints", Silent(), lambda name, compute: compute())
    found = patch_embedding(jax.random.key(1), inputs, jnp.asarray(pixels), None, 2, 150)
    embedded, error = eqx.filter_jit(lambda e, x: (e.patches(x), e.loss(x, jnp.zeros(len(x), jnp.int32))))(
        found, pixels
    )
    assert embedded.shape == (200, 9, 16) and found.num_classes == 0
    assert error < 0.1 * pixels.var()


@pytest.mark.slow
def test_a_run_that_lost_stages_comes_back_the_same(stripes, whole):
    before = (whole.folder / "data.nc").read_bytes()
    for stage in ("t-1.nc", "examples.nc"):
        (whole.folder / "stages" / stage).unlink()
    again = finished(stripes, whole.folder)
    xr.testing.assert_identical(again.dataset, whole.dataset)
    assert again.findings == whole.findings and (whole.folder / "data.nc").read_bytes() == before


def test_mixing_keeps_every_patch_and_its_place():
    images = jax.random.normal(jax.random.key(0), (5, 4, 6, 2))
    shifts = jax.random.randint(jax.random.key(1), (2, 3), 0, 5)
    squares = jax.jit(lambda x, shifts: (gathered(x, 2), gathered(stages._mixed(x, shifts, 2), 2)))(images, shifts)
    before, after = (np.asarray(x).reshape(5, 6, 8) for x in squares)
    from_where = (after[:, None] == before[None]).all(-1).argmax(1)  # (trajectories, patches)
    np.testing.assert_array_equal(from_where, (np.arange(5)[:, None] + np.asarray(shifts).ravel()) % 5)


def test_mixing_leaves_no_correlation_on_average():
    """Patches that all move alike: chi of their lengths is their number, and 1 after mixing, over draws of shifts."""
    alike = jnp.broadcast_to(jax.random.normal(jax.random.key(2), (8, 1, 1, 1)), (8, 6, 6, 1))

    def sums(key):
        mixed = stages._mixed(alike, jax.random.randint(key, (3, 3), 0, 8), 2)
        return connected_sums(stages._patches(mixed, 2)[..., 0], GridGeometry(3, 3))

    found = jax.jit(jax.vmap(sums))(jax.random.split(jax.random.key(3), 2000))
    chi = bootstrap(jax.random.key(4), found, susceptibility)
    assert abs(chi.value - 1) < 5 * chi.stderr and chi.stderr < 0.05


def test_chi_of_pixels_is_that_of_its_definition(whole):
    """On sums as they are stored: chi = sum over all pairs of covariances over sum of variances."""
    mean = whole.dataset.sums.sel(kind="pixels").mean("datum").values
    np.testing.assert_allclose(whole.findings.curve("chi/pixels").value, mean.sum(1) / mean[:, 0], rtol=1e-5)
    assert (mean[:, 0] > 0).all() and jnp.isfinite(whole.findings.curve("xi/pixels").value).all()


def test_the_excess_is_chi_above_the_control(whole):
    chi, control = (whole.findings.curve("chi", kind).value for kind in ("embedding", "control"))
    np.testing.assert_allclose(whole.findings.curve("excess").value, chi - control, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 8}, "patch = 8 leaves 1 x 1 patches of stripes"),
        ({"num_data": 13}, r"stripes\.npz leaves 12 held-out images, num_data = 13 are asked for: lower num_data"),
    ],
)
def test_unfit_images_are_refused_before_training_and_leave_no_folder(stripes, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        finished(dataclasses.replace(stripes, **options), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_levels": (0.5, 1.0)}, "give at least 3 finite numbers, above 0"),
        ({"noise_levels": (0.5, 1.0, 2.0)}, "evenly spaced"),
        ({"noise_levels": (3.0, 4.0, 5.0)}, r"times end at 4"),
        ({"patch": 0}, "patch = 0: must be at least 1"),
        ({"num_trajectories": 1}, "num_trajectories = 1: must be at least 2"),
    ],
)
def test_impossible_configurations_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)


def test_two_classes_are_held_against_their_speciation_times(whole):
    """The times are those of `theory.labelled`, tested there; the report sets the measured one beside both."""
    assert "of two classes it is kept with probability 0.775 at t = " in whole.report.closing
    rng, mean = np.random.default_rng(2), np.array([2.0, 0.0, 0.0, 0.0])
    labels = np.arange(4000) % 2
    rows = np.where(labels[:, None] == 1, mean, -mean) + rng.normal(size=(4000, 4)) * [0.5, 1.0, 0.3, 0.3]
    pixels = rows.reshape(-1, 2, 2, 1).astype(np.float32)
    sets = Images("clusters", pixels, labels.astype(np.int32), "drawn", ("up", "down"))
    data = PreparedImages(sets, pixels, sets.labels, pixels[:4], sets.labels[:4], 0.0, 1.0)
    found = stages.speciation_attributes(jax.random.key(0), data)
    for name, truth in (("covariance_time", np.log(4.25) / 2), ("signal_time", np.log(4.75) / 2)):
        assert abs(found[name] - truth) < 5 * found[name + "_stderr"] < 0.1
    for name, (attribute, _) in analysis.CRITERIA.items():
        time, ratio = whole.findings["speciation-time", name], whole.findings["decided-over-predicted", name]
        assert time.value == whole.dataset.attrs[attribute] and time.kind == "predicted"
        np.testing.assert_allclose(ratio.value * time.value, whole.findings["decided"].value)


def test_a_single_class_has_nothing_to_decide():
    with pytest.raises(ValueError, match=r"classes = 3: give two or more, or none for all"):
        dataclasses.replace(TINY, classes=("3",))
