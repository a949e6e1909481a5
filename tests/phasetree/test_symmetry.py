"""The experiment `symmetry`: where knobs switch latents, whole small runs, data of one's own, refusals."""

import dataclasses

import jax
import numpy as np
import pytest

from hierarchical import Ring
from phasetree.experiments import symmetry as experiment
from phasetree.experiments.symmetry import stages
from phasetree.experiments.symmetry.sets import CASES, eigenvalues, switching, unit
from phasetree.runner.run import execute

TINY = experiment.Config(
    sets=("ring",), num_data=512, num_taus=2, num_seeds=2, num_trials=2, steps=3000, dense_steps=4,
    switch_steps=4, score_steps=4, width=8, num_latents=2, factors=(0.5, 0.8, 1.2, 1.5), dense_factors=(1.2, 1.5),
    noise=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every stage of one set: here dense networks sweep its knob too, with the programs that count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "SWITCHED", ("ring",))
        return execute("symmetry", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    config = dataclasses.replace(TINY, sets=("ring", "muon-pairs"))
    return execute("symmetry", experiment, config, tmp_path_factory.mktemp("runs") / "two")


def test_knobs_switch_latents_where_their_variances_say():
    """(1 - a / 2) / 2 = tau; spread^2 = tau, of two directions; recoil^2 / 2 = tau times the variance of p_x."""
    assert switching("ring", 0.4) == (pytest.approx(0.4, rel=1e-6), (1,))
    assert switching("muon-pairs", 0.0064) == (pytest.approx(0.08, rel=1e-6), (3, 4))
    recoil, places = switching("drell-yan", 0.04)
    assert places == (6, 7)
    assert recoil**2 / 2 == pytest.approx(0.04 * unit("drell-yan")[1] ** 2, rel=1e-5)
    assert switching("planet-3", 0.01) is None
    assert switching("ring", 0.9) is None


@pytest.mark.parametrize("name", CASES)
def test_every_set_has_its_linear_rank_in_its_unit(name):
    values = eigenvalues(name, 0.0)
    assert np.sum(values > 1e-6 * values[0]) == CASES[name].law(0.0).counts.linear


def check_switching(found, name):
    assert found["closed-form", name, "spectrum"].value < 1e-3
    assert found["closed-form", name, "switching"].value < 1e-3
    assert abs(found["knob-error", name, "linear"].value) < 5


def test_linear_networks_switch_where_theory_says(whole):
    check_switching(whole.findings, "ring")
    assert whole.findings["knob", "ring", "theory"].value == pytest.approx(2 - 4 * CASES["ring"].tau)


def check_ring(found):
    assert [found["count", "ring", kind].value for kind in ("linear", "intrinsic")] == [2, 1]
    assert abs(found["count", "ring", "dimension"].value - 1) < 0.2
    assert found["rotations", "ring", "exact"].value == found["true", "ring", "rotations"].value == 1
    for of in ("law", "set"):
        assert found["angle", "ring", "exact", of].value < 5


def test_counts_and_generators_of_a_run(whole):
    check_ring(whole.findings)


@pytest.mark.slow
def test_sets_of_one_run_have_their_own_knobs_counts_and_generators(two):
    found = two.findings
    for name in ("ring", "muon-pairs"):
        check_switching(found, name)
    check_ring(found)
    assert found["knob", "muon-pairs", "theory"].value == pytest.approx(0.08)
    assert [found["count", "muon-pairs", kind].value for kind in ("linear", "intrinsic")] == [3, 2]
    assert [found["true", "muon-pairs", kind].value for kind in ("linear", "intrinsic", "embedding")] == [3, 2, 3]
    assert found["generators", "muon-pairs", "exact"].value == found["true", "muon-pairs", "generators"].value == 3
    for of in ("law", "set"):
        assert found["angle", "muon-pairs", "exact", of].value < 5
    assert all(cell == found[cell.name] for cell in two.report.findings())


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "switch a latent where theory says" in whole.report.closing
    assert (whole.folder / "figure.png").stat().st_size > 10_000


def test_data_of_ones_own_are_counted_without_a_law(tmp_path):
    x = np.asarray(Ring().sample(jax.random.key(0), (2500,)).x)
    np.savetxt(tmp_path / "mine.csv", np.column_stack([x, x[:, 0] - x[:, 1], np.ones(2500)]), delimiter=",")
    config = dataclasses.replace(TINY, file=tmp_path / "mine.csv", no_train=True)
    found = execute("symmetry", experiment, config, tmp_path / "run")
    assert found.findings["count", "own", "linear"].value == 2
    assert abs(found.findings["count", "own", "dimension"].value - 1) < 0.2
    assert found.findings["rotations", "own", "data"].value == 1
    assert "from data alone: own" in found.report.closing
    np.savetxt(tmp_path / "one.csv", x[:, :1], delimiter=",")
    with pytest.raises(ValueError, match="2500 rows, 1 columns vary"):
        execute("symmetry", experiment, dataclasses.replace(config, file=tmp_path / "one.csv"), tmp_path / "one")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": ("square",)}, "sets = square: give of ring"),
        ({"sets": ("ring", "ring")}, "each once"),
        ({"factors": (0.5, 0.8, 1.2)}, "two above 1"),
        ({"dense_factors": (0.5, 1.2)}, "at least two above 1"),
        ({"tau": 0.0}, "tau = 0.0"),
        ({"num_data": 10}, "num_data = 10"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
