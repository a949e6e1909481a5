"""Several seeds of an experiment of one's own: averages against NumPy, folders, the command line."""

import jax.numpy as jnp
import numpy as np
import pytest

import phasetree
from diffusion.measure import Estimate
from diffusion.measure.estimate import student_factor
from phasetree.cli import main
from phasetree.experiment import Finding, Findings
from tests.phasetree import own_experiment as own


def test_averages_are_means_with_errors_from_the_scatter(tmp_path):
    sweep = phasetree.run_seeds(own, [0, 1, 2], num_data=50, out=tmp_path)
    values = np.array(
        [phasetree.run(own, seed=seed, num_data=50, out=False).findings["heads"].value for seed in range(3)]
    )
    heads, scatter = sweep.findings["heads"], sweep.findings["scatter", "heads"]
    np.testing.assert_allclose(heads.value, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(heads.stderr, student_factor(3) * values.std(ddof=1) / 3**0.5, rtol=1e-6)
    np.testing.assert_allclose(scatter.value, values.std(ddof=1), rtol=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed0", "seed1", "seed2", "seeds0-2"]
    assert Findings.from_json((sweep.folder / "findings.json").read_text()) == sweep.findings
    assert sweep.runs[1] == phasetree.open_result(tmp_path / "seed1")[1]


def test_a_run_that_does_not_resolve_a_finding_shows():
    def run(value):
        return Findings([Finding("x", Estimate(jnp.asarray(value), jnp.asarray(0.1)), "measured", "1")])

    unresolved = phasetree.average([run(1.0), run(jnp.nan), run(2.0)])["x"]
    assert not unresolved.resolved and unresolved.note == "resolved in 2 of 3 runs"
    with pytest.raises(ValueError, match="1 runs: an average with an error needs two or more"):
        phasetree.average([run(1.0)])


def test_the_command_line_prints_the_average(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([own.__name__, "--seed", "4", "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "Averages of 2 findings over 2 seeds (4, 5)." in printed and "seed 5: Heads: " in " ".join(printed.split())
    folders = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert folders == [f"own-experiment-default-{name}" for name in ("seed4", "seed5", "seeds4-5")]
    for seeds in ("0", str(10**12)):
        assert main([own.__name__, "--seeds", seeds]) == 2
        assert f"--seeds {seeds}: give 1 to 10000, and 1 beside --start" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [[], [3], [3, 3]])
def test_fewer_than_two_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="give two or more, all different"):
        phasetree.run_seeds(own, seeds)
