"""The experiment `recovery`: a whole small run, crossings, sequences of one's own, refusals."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from diffusion.measure.estimate import student_factor
from hierarchical import RandomHierarchyModel
from phasetree.experiments import recovery as experiment
from phasetree.recipes.sample_numbers import crossing, geometric_mean, geometric_ratio
from phasetree.runner.run import execute

TINY = experiment.Config(
    num_symbols=4, num_synonyms=2, depths=(2, 3), num_grammars=2, samples=(16, 256, 1024),
    statistics=("labels", "latents"), num_steps=20, held_out=256,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return execute("recovery", experiment, TINY, tmp_path_factory.mktemp("runs") / "whole")


def test_many_strings_give_levels_and_rules(whole):
    """n m^L = 16 and 32 strings: with 1024 every level of both depths is right, with 256 all rules are learned."""
    for depth in TINY.depths:
        for level in range(1, depth):
            for name in TINY.statistics:
                assert whole.findings["agreement", name, depth, level, 1024].value > 0.9
                assert whole.findings["agreement", name, depth, level, 16].value < 0.9
    assert whole.findings["strings", "predicted", 3].value == 4 * 2**3
    assert whole.findings["growth", "predicted"].value == 2
    for level in range(3):
        assert whole.findings["rules", "learned", level, 256].value > 0.9
    assert 1 < whole.findings["loss", 256].value < 1.05
    assert ("loss", 1024) not in whole.findings  # more than 8 n m^L strings teach nothing
    assert whole.findings["score", "given", "triplets", 3].value > 0.9


def test_the_report_prints_findings_and_ends_in_a_sentence(whole):
    assert all(cell == whole.findings[cell.name] for cell in whole.report.findings())
    assert "From depth 2 to 3 the strings that are needed grow by labels" in whole.report.closing
    assert (whole.folder / "figure.png").stat().st_size > 10_000


def test_crossings_are_read_linearly_in_the_logarithm():
    samples = np.array([10, 100, 1000])
    assert crossing(samples, np.array([0.0, 0.25, 0.75])) == pytest.approx(np.log(10**2.5))
    assert np.isnan(crossing(samples, np.array([0.6, 0.7, 1.0])))
    assert np.isnan(crossing(samples, np.array([0.0, 0.1, 0.2])))


def test_geometric_means_and_ratios_propagate_errors_in_the_logarithm():
    """Of ln 1, ln 4 the mean is 2; the error of a mean of two is half their distance, times Student's factor."""
    logs = np.log([1.0, 4.0])
    mean, ratio = geometric_mean(logs), geometric_ratio(logs + np.log(3.0), logs)
    assert float(mean.value) == pytest.approx(2) and float(ratio.value) == pytest.approx(3)
    assert float(mean.stderr) == pytest.approx(2 * student_factor(2) * np.log(2.0))
    assert float(ratio.stderr) == pytest.approx(3 * np.sqrt(2) * student_factor(2) * np.log(2.0))
    assert np.isnan(geometric_mean(np.array([0.0, np.nan])).value)


def test_sequences_of_ones_own(tmp_path):
    rhm = RandomHierarchyModel(4, 2, 2, 2, key=jax.random.key(0))
    strings = np.asarray(rhm.sample(jax.random.key(1), (800,)).x)
    np.savetxt(tmp_path / "mine.txt", strings.reshape(400, 8), fmt="%d")
    config = dataclasses.replace(TINY, depths=(2,), file=tmp_path / "mine.txt")
    found = execute("recovery", experiment, config, tmp_path / "run")
    assert found.findings["information", "found", 1].value > 0.1
    shuffled = found.findings["information", "shuffled", 1]
    assert abs(shuffled.value) < 5 * shuffled.stderr
    assert found.findings["known", 1].value == found.findings["known", 2].value == 1
    assert "800 windows of 2^2 tokens" in found.report.title
    assert "standard errors from 0" in found.report.closing
    np.savetxt(tmp_path / "few.txt", strings[:30], fmt="%d")
    with pytest.raises(ValueError, match="hold 30 windows of 4 tokens: give at least 32"):
        execute("recovery", experiment, dataclasses.replace(config, file=tmp_path / "few.txt"), tmp_path / "few")
    with pytest.raises(ValueError, match="sequences of 8 tokens, windows of 16"):
        execute("recovery", experiment, dataclasses.replace(config, depths=(4,)), tmp_path / "long")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistics": ("words",)}, "statistics = words: give of labels"),
        ({"statistics": ("labels", "labels")}, "each once"),
        ({"depths": (3, 2)}, "increasing whole numbers from 2 on"),
        ({"samples": (4, 16)}, "increasing whole numbers from 8 on"),
        ({"file": pathlib.Path("x.txt")}, "strings of a file have one"),
        ({"num_grammars": 1}, "num_grammars = 1"),
        (
            {"depths": (2, 60)},
            "depths = 60, branching = 2: the beliefs of one string need .*: lower depths or branching",
        ),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **options)
