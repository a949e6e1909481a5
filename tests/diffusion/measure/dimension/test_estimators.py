"""The dimension of data from exact denoisers, whose dimension is known, and from finite training sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking, VarianceExploding, VectorProcess
from diffusion.measure import dimension
from hierarchical import LinearSubspace, RandomHierarchyModel, Sphere
from theory.exact import EmpiricalDenoiser, GrammarDenoiser, LawDenoiser, SphereDenoiser

KEY = np.array([0, 0], np.uint32)  # an old-style key may be used again
PROCESS = VectorProcess(VarianceExploding())


def time_of(noise):
    """The time at which the exploding path has this noise."""
    return float(np.log1p(noise**2) / 2)


def sphere(k, d, noise=None):
    law = Sphere(KEY, k, d)
    return SphereDenoiser(law, PROCESS), law.sample(jax.random.key(1), 3).x


@pytest.fixture(scope="module")
def fifty():
    return sphere(50, 100)


def test_flipd_of_a_sphere_is_the_closed_form_and_its_extrapolation(fifty):
    """44.03 at s = .1; 49.96 by two noises, 50.01 by three."""
    values = [dimension.flipd(KEY, *fifty, time_of(0.1 / root)).value for root in (1, 2**0.5, 2)]
    np.testing.assert_allclose(values[0], 44.03, atol=0.005)
    np.testing.assert_allclose(2 * values[1] - values[0], 49.96, atol=0.005)
    np.testing.assert_allclose((8 * values[2] - 6 * values[1] + values[0]) / 3, 50.01, atol=0.005)


def test_extrapolation_takes_curvature_away(fifty):
    """Errors of -50 * 49 s^2 of moments of draws become of order s^4, and those of the draws hardly grow."""
    denoiser, x = fifty
    once, twice = (dimension.flipd(KEY, denoiser, x, time_of(0.1), extrapolate=j) for j in (1, 2))
    np.testing.assert_allclose(once.value, 49.96, atol=0.005)
    np.testing.assert_allclose(twice.value, 50.01, atol=0.005)
    assert not once.flags["curvature-limited"].any() and (once.stderr == 0).all()
    plain = dimension.trace(KEY, denoiser, x, time_of(0.04))
    for estimator in (dimension.trace, dimension.dsm):
        found = estimator(KEY, denoiser, x, time_of(0.04), extrapolate=2)
        assert (np.abs(found.value - 50) < 4 * found.stderr).all() and (found.stderr < 1.2 * plain.stderr).all()
    far = dimension.trace(KEY, denoiser, x, time_of(0.15), extrapolate=1)
    assert far.flags["curvature-limited"].all()


def test_probes_and_draws_agree_with_exact_traces(fifty):
    denoiser, x = fifty
    s = 0.02
    exact = dimension.flipd(KEY, denoiser, x, time_of(s))
    probed = dimension.flipd(KEY, denoiser, x, time_of(s), num_probes=400)
    assert (exact.stderr == 0).all() and (np.abs(probed.value - exact.value) < 4 * probed.stderr).all()
    bias = -50 * 49 * s**2
    for estimator in (dimension.dsm, dimension.trace):
        found = estimator(KEY, denoiser, x, time_of(s), num_draws=400)
        assert (np.abs(found.value - 50 - bias) < 4 * found.stderr + 0.05).all()
        assert not any(marks.any() for marks in found.flags.values())
    assert (found.stderr < 1.15 * np.sqrt(2 * 50 / 400)).all()  # itself known to 4%


@pytest.mark.parametrize(("k", "d"), [(10, 30), *(pytest.param(k, 100, marks=pytest.mark.slow) for k in (10, 50))])
def test_singular_values_count_a_sphere_exactly(k, d):
    """With the exact score 10 and 50, where trained networks of the literature give 11 and 51."""
    denoiser, x = sphere(k, d)
    t = time_of(0.01)
    assert (dimension.normal_bundle(KEY, denoiser, x, t, num_draws=400).value == k).all()
    found = dimension.ritz(KEY, denoiser, x, t, num_probes=100 if k == 50 else 30)
    assert (found.value == k).all() and np.isnan(found.stderr).all()
    assert not found.flags["more probes needed"].any()
    few = dimension.ritz(KEY, denoiser, x, t, num_probes=5)
    assert few.flags["more probes needed"].all() and (few.value == 5).all()


@pytest.mark.slow
def test_a_sketch_counts_in_a_thousand_dimensions():
    """60 products for a datum, where the normal bundle takes 2000 scores or more; `benchmarks.dimension` times both."""
    denoiser, x = sphere(10, 1000)
    found = dimension.ritz(KEY, denoiser, x, time_of(0.01), num_probes=30)
    assert (found.value == 10).all() and not found.flags["more probes needed"].any()
    values = dimension.spectrum(KEY, denoiser, x, time_of(0.01), num_probes=30)
    assert values.shape == (3, 30) and (values[:, 9] > 0.99).all() and (values[:, 10] < 0.01).all()


def test_a_flat_piece_has_its_dimension_whatever_the_path():
    law = LinearSubspace(KEY, 7, 20, spreads=3.0)
    x = law.sample(jax.random.key(2), (2, 2)).x
    for process, t in ((PROCESS, time_of(0.05)), (VectorProcess(), time_of(0.05))):
        denoiser = LawDenoiser(law, 20, process)
        assert (dimension.ritz(KEY, denoiser, x, t).value == 7).all()
        found = dimension.flipd(KEY, denoiser, x, t)
        along = jnp.sum((x @ law.axes) ** 2, -1)
        want = 7 * 9 / 9.0025 + 0.0025 * along / 9.0025**2
        np.testing.assert_allclose(found.value, want, rtol=1e-9)
        assert found.value.shape == (2, 2)


def test_zero_and_all_dimensions_are_answers():
    """A training set below its resolution has dimension 0 at its points; a full Gaussian has all."""
    law = Sphere(KEY, 5, 12)
    data = law.sample(jax.random.key(3), 200).x
    found = dimension.flipd(KEY, EmpiricalDenoiser(data, PROCESS), data[:3], time_of(0.02))
    np.testing.assert_allclose(found.value, 0, atol=1e-6)
    full = LawDenoiser(LinearSubspace(KEY, 6, 6, spreads=1.0), 6, PROCESS)
    x = jnp.zeros((1, 6))
    assert dimension.ritz(KEY, full, x, time_of(0.05)).value == 6
    np.testing.assert_allclose(dimension.trace(KEY, full, x, time_of(0.01), num_draws=4000).value, 6, atol=0.2)


def test_an_error_of_the_score_is_suspected():
    """A score with an error that changes sign from place to place raises dsm alone, and is flagged."""

    class Wrong(SphereDenoiser):
        def score_batch(self, x_t, t):
            s = self.process.path.sigma(t)[:, None]
            return super().score_batch(x_t, t) + 0.5 / s * jnp.sin(1e4 * x_t)

    law = Sphere(KEY, 10, 30)
    x = law.sample(jax.random.key(4), 3).x
    found = dimension.dsm(KEY, Wrong(law, PROCESS), x, time_of(0.02), num_draws=400)
    assert found.flags["score error suspected"].all()
    level = dimension.trace(KEY, Wrong(law, PROCESS), x, time_of(0.02), num_draws=400)
    assert (np.abs(level.value - 10) < 4 * level.stderr + 0.1).all() and (found.value > 12).all()


def test_wrong_input_is_refused_by_name(fifty):
    denoiser, x = fifty
    grammar = GrammarDenoiser(RandomHierarchyModel(3, 2, 2, 2, key=jax.random.key(0)), Masking(3))
    for refused, message in (
        (lambda: dimension.flipd(KEY, grammar, np.zeros((1, 4), int), 0.5), "GrammarDenoiser is no denoiser of arrays"),
        (lambda: dimension.flipd(KEY, denoiser, x, 0.0), "t = 0: without noise there is no local field"),
        (lambda: dimension.flipd(KEY, denoiser, x[:, :3], 0.1), "x_t"),
        (lambda: dimension.flipd(KEY, denoiser, x, 0.1, num_probes=1), "num_probes = 1"),
        (lambda: dimension.dsm(KEY, denoiser, x, 0.1, num_draws=1), "num_draws = 1"),
        (lambda: dimension.normal_bundle(KEY, denoiser, x, 0.1, num_draws=150), "d = 100, num_draws = 150"),
        (lambda: dimension.ritz(KEY, denoiser, x, 0.1, num_probes=101), "num_probes = 101, more than the 100 numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
