"""Collapse of coordinates: strings against enumeration of all noised strings, arrays against closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import EpsilonBelief, GaussianProcess, Masking, UniformNoise, VarianceExploding, VectorProcess
from diffusion.measure.memorisation import coordinate_collapse
from hierarchical import GaussianMixture, RandomHierarchyModel
from tests.references.enumeration import derivations
from theory.exact import EmpiricalDenoiser, GrammarDenoiser, MixtureDenoiser

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
PROCESS = VectorProcess(VarianceExploding())
RHM = RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0))  # strings of 4 leaves
LISTED = derivations([np.asarray(table) for table in RHM.rules], [np.full((3, 2), 0.5)] * 2)
WEIGHTS, LANGUAGE = np.array([weight for weight, _ in LISTED]), np.array([levels[-1] for _, levels in LISTED])


def time_of(noise):
    return float(np.log1p(noise**2) / 2)


def channel(process, t):
    """q(x_t | x_0) of a site, (symbols, noised symbols), from the definition."""
    if isinstance(process, Masking):
        return np.concatenate([(1 - t) * np.eye(3), np.full((3, 1), t)], 1)
    return (1 - t) * np.eye(3) + t / 3


def enumerated_variance(process, t, x, weights, strings):
    """Mean of 1 - sum_v p_v^2 over all noised strings, p the posterior of each site given the listed strings."""
    q, sites = channel(process, t), np.arange(4)
    total = np.zeros(4)
    for x_t in itertools.product(range(q.shape[1]), repeat=4):
        chance = np.prod(q[x, x_t])
        if chance > 0:
            posterior = weights * np.prod(q[strings, np.array(x_t)], 1)
            posterior = posterior / posterior.sum()
            marginals = np.stack([[posterior[strings[:, i] == v].sum() for v in range(3)] for i in sites])
            total += chance * (1 - np.sum(marginals**2, 1))
    return total


@pytest.mark.parametrize("process", [Masking(3), pytest.param(UniformNoise(3), marks=pytest.mark.slow)])
def test_strings_that_a_training_set_knows_collapse_as_enumeration_tells(process):
    """The exact denoiser of 5 strings against that of the grammar, noise drawn."""
    rows = np.unique(LANGUAGE, axis=0)[::3][:5]
    x, t = rows[:2], 0.5
    small, exact = EmpiricalDenoiser(rows, process), GrammarDenoiser(RHM, process)
    found = coordinate_collapse(KEY, small, exact, x, t, num_draws=1500)
    for i, string in enumerate(x):
        own = enumerated_variance(process, t, string, np.ones(len(rows)) / len(rows), rows)
        wanted = enumerated_variance(process, t, string, WEIGHTS, LANGUAGE)
        assert (np.abs(found.value[i] - np.log(wanted / own)) < 4 * found.stderr[i]).all()
    assert (found.stderr < 0.2).all() and (found.value > 4 * found.stderr).any()


def test_beliefs_without_noise_are_exact():
    """Under epsilon-belief nothing is drawn: the ratio is that of one posterior, its error 0."""
    process, t = EpsilonBelief(3), 0.6
    rows = np.unique(LANGUAGE, axis=0)[::3][:5]
    found = coordinate_collapse(KEY, EmpiricalDenoiser(rows, process), GrammarDenoiser(RHM, process), rows, t)
    q = channel(process, t)

    def variance(x, weights, strings):
        posterior = weights * np.prod(q[strings, x], 1)
        marginals = [[posterior[strings[:, i] == v].sum() for v in range(3)] for i in range(4)]
        return 1 - np.sum((np.array(marginals) / posterior.sum()) ** 2, 1)

    for x, value in zip(rows, found.value, strict=True):
        want = np.log(variance(x, WEIGHTS, LANGUAGE)) - np.log(variance(x, np.ones(len(rows)), rows))
        np.testing.assert_allclose(value, want, rtol=1e-9)
    assert (found.stderr < 1e-12).all()


@pytest.mark.parametrize("process", [PROCESS, pytest.param(VectorProcess(), marks=pytest.mark.slow)])
def test_a_coordinate_that_collapses_is_singled_out(process):
    """V = lambda s^2 / (lambda + s^2) of a Gaussian along its axes, whatever is drawn, on every path."""
    wide, narrow, s = np.array([1.0, 2.0, 0.5]), np.array([1.0, 1e-12, 0.5]), 0.7
    pair = [MixtureDenoiser(GaussianMixture(np.ones(1), np.zeros((1, 3)), v[None]), process) for v in (narrow, wide)]
    x = np.random.default_rng(0).normal(size=(2, 2, 3))
    found = coordinate_collapse(KEY, *pair, x, np.array([time_of(s), time_of(2 * s)]), num_draws=3)
    for i, variance in enumerate([s**2, 4 * s**2]):
        want = np.log(wide / (wide + variance)) - np.log(narrow / (narrow + variance))
        np.testing.assert_allclose(found.value[i], np.broadcast_to(want, (2, 3)), rtol=1e-9, atol=1e-12)
    assert found.value.shape == (2, 2, 3) and (found.stderr < 1e-9).all()


@pytest.mark.parametrize("probes", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_arrays_have_the_variance_of_the_exact_posterior(probes):
    """Two mixtures: the mean of the diagonal of Cov[x_0 | x_t] over other draws, and by random probes."""
    mixtures = [GaussianMixture(np.ones(2), [[0.0, 0, 1], [c, 1, -1]], v) for c, v in ((1.0, 0.1), (2.0, 0.5))]
    denoisers = [MixtureDenoiser(mixture, PROCESS) for mixture in mixtures]
    x, s = np.array([0.3, 0.4, 0.1]), 0.8
    y = x + s * np.random.default_rng(1).normal(size=(4000, 3))
    variances = [np.einsum("nii->ni", m.posterior_covariance(y, np.ones(4000), np.full(4000, s))) for m in mixtures]
    own, wanted = (v.mean(0) for v in variances)
    error = (variances[1] / wanted - variances[0] / own).std(0) / 4000**0.5
    found = coordinate_collapse(KEY, *denoisers, x, time_of(s), num_draws=800, num_probes=probes)
    assert (np.abs(found.value - np.log(wanted / own)) < 4 * np.hypot(found.stderr, error)).all()


def test_certainty_and_impossibility_are_marked():
    """A set of one string or point is certain: infinite; a string outside the set is impossible: NaN."""
    process = Masking(3)
    rows = np.unique(LANGUAGE, axis=0)
    one, exact = EmpiricalDenoiser(rows[:1], process), GrammarDenoiser(RHM, process)
    found = coordinate_collapse(KEY, one, exact, rows[:1], 0.9, num_draws=30).value
    assert np.isposinf(found).all()
    assert np.isnan(coordinate_collapse(KEY, one, exact, rows[-1:], 0.1, num_draws=30).value).all()
    assert np.isnan(coordinate_collapse(KEY, one, one, rows[:1], 0.9).value).all()
    point = EmpiricalDenoiser(np.ones((1, 3)), PROCESS)
    law = MixtureDenoiser(GaussianMixture(np.ones(1), np.zeros((1, 3)), 1.0), PROCESS)
    assert np.isposinf(coordinate_collapse(KEY, point, law, np.ones(3), 0.1).value).all()


def test_gaussian_noise_on_strings_jit_and_single_precision():
    process = GaussianProcess(3)
    rows = np.unique(LANGUAGE, axis=0)[:4]
    pair = EmpiricalDenoiser(rows, process), GrammarDenoiser(RHM, process)
    outside = coordinate_collapse(KEY, *pair, rows.tolist(), 0.5)
    inside = jax.jit(lambda x, t: coordinate_collapse(jax.random.wrap_key_data(KEY), *pair, x, t))(rows, 0.5)
    np.testing.assert_allclose(inside.value, outside.value, rtol=1e-9)
    assert outside.value.shape == (4, 4)
    data = np.random.default_rng(2).normal(size=(5, 2, 2)).astype(np.float32)
    pair = EmpiricalDenoiser(data, PROCESS), EmpiricalDenoiser(data + 1, PROCESS)
    found = coordinate_collapse(KEY, *pair, data[0], np.float32(0.5), num_draws=4)
    assert found.value.dtype == found.stderr.dtype == jnp.float32 and found.value.shape == (2, 2)


def test_wrong_input_is_refused_by_name():
    process = Masking(3)
    rows = np.unique(LANGUAGE, axis=0)[:4]
    small, exact = EmpiricalDenoiser(rows, process), GrammarDenoiser(RHM, process)
    other = GrammarDenoiser(RHM, UniformNoise(3))
    point = EmpiricalDenoiser(np.ones((2, 3)), PROCESS)
    for refused, message in (
        (lambda: coordinate_collapse(KEY, small, other, rows, 0.5), "give denoisers of the same"),
        (lambda: coordinate_collapse(KEY, small, point, rows, 0.5), r"EmpiricalVectorDenoiser \(3,\)"),
        (lambda: coordinate_collapse(KEY, small, exact, rows[:, :3], 0.5), r"x has shape \(4, 3\)"),
        (lambda: coordinate_collapse(KEY, small, exact, rows + 3, 0.5), "x0 holds the symbol 3"),
        (lambda: coordinate_collapse(KEY, small, exact, rows, 1.5), r"t = 1\.5 is not a time of Masking"),
        (lambda: coordinate_collapse(KEY, small, exact, rows, 0.0), "t = 0: without noise nothing is uncertain"),
        (lambda: coordinate_collapse(KEY, small, exact, rows, 0.5, num_draws=1), "num_draws = 1"),
        (lambda: coordinate_collapse(KEY, small, exact, rows, 0.5, num_probes=2), "num_probes = 2: strings have no"),
        (lambda: coordinate_collapse(KEY, point, point, np.ones(3), 0.5, num_probes=0), "num_probes = 0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
