"""The end of the flow, against closed forms, and the sampler of its students."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import (
    DDIM,
    AbstractSampler,
    AdaptiveFlow,
    FlowEnd,
    GaussianProcess,
    LogSNRSchedule,
    OneHotDenoiser,
    ProbabilityFlow,
    Renoised,
    ReverseSDE,
    VectorProcess,
    generate,
)
from hierarchical import GaussianMixture
from tests.grammars import enumerated
from theory.exact import GrammarDenoiser, MixtureDenoiser
from theory.gaussian.flow_map import flow_map

STD = 0.5
ONE = MixtureDenoiser(GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), STD**2), VectorProcess())
MODES = GaussianMixture(jnp.ones(2) / 2, jnp.array([[-1.5], [1.5]]), 0.3)


def variance_after(end, times):
    """Of pure noise taken to its end at the first time, noised to each other one and taken to its end again.

    The end of a Gaussian's flow is linear in x, v -> e^2 (alpha^2 v + sigma^2), with v within 1% of s^2.
    """
    variance = 0.0
    for t in times:
        gain = float(end(jnp.ones((1, 2)), t)[0, 0])
        variance = gain**2 * (np.exp(-2 * t) * variance - np.expm1(-2 * t))
    assert abs(variance / STD**2 - 1) < 0.01  # what the steps of the flow lose, `reverse.py`
    return variance


def test_the_flow_of_a_gaussian_ends_at_its_standardised_numbers():
    """x s / sqrt(alpha^2 s^2 + sigma^2), each row from its own time, and x itself where nothing was noised."""
    x, t = jax.random.normal(jax.random.key(0), (4, 2)), jnp.array([0.0, 0.3, 1.0, 3.0])
    end = FlowEnd(ONE, AdaptiveFlow(1e-7, 1e-6))
    wanted = x * (STD / jnp.sqrt(jnp.exp(-2 * t) * STD**2 - jnp.expm1(-2 * t)))[:, None]
    np.testing.assert_allclose(end(x, t), wanted, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(end(x, t)[0], x[0])


def test_the_flow_of_two_modes_ends_where_ranks_say():
    x = np.linspace(-2, 2, 9)[:, None]
    end = FlowEnd(MixtureDenoiser(MODES, VectorProcess()), ProbabilityFlow(400, 1e-5))
    noised = MODES.noised(np.exp(-3.0), np.sqrt(-np.expm1(-6.0)))
    np.testing.assert_allclose(end(x, 3.0)[:, 0], flow_map(noised, MODES, x[:, 0]), atol=2e-3)


def test_one_call_is_the_student_itself_and_generation_uses_it():
    end, x = FlowEnd(ONE), jax.random.normal(jax.random.key(1), (3, 2))
    np.testing.assert_allclose(Renoised(1)(jax.random.key(2), end, x, 2.0), end(x, 2.0), rtol=1e-6)
    made = np.asarray(generate(jax.random.key(3), end, 4096), float)
    assert abs(made.var() / variance_after(end, [float(end.max_time)]) - 1) < 5 * np.sqrt(2 / made.size)


@pytest.mark.parametrize("num_steps", [2, 4])
def test_noising_again_keeps_the_law_of_an_exact_student(num_steps):
    """The ends of N(0, s^2) are N(0, s^2), whatever number of times they are noised again."""
    x = ONE.process.prior(jax.random.key(4), (4096, 2), jnp.float32(4.0))
    made = np.asarray(Renoised(num_steps)(jax.random.key(5), FlowEnd(ONE), x, 4.0), float)
    assert abs(made.mean()) < 5 * STD / np.sqrt(made.size)
    fractions = LogSNRSchedule()(jnp.linspace(1, 0, num_steps, endpoint=False))
    wanted = variance_after(FlowEnd(ONE), (4 * fractions / fractions[0]).tolist())
    assert abs(made.var() / wanted - 1) < 5 * np.sqrt(2 / made.size)
    assert abs(np.corrcoef(np.asarray(x).ravel(), np.asarray(made).ravel())[0, 1]) < 0.8  # drawn anew


def test_nan_stays_nan_and_the_end_has_a_gradient():
    end = FlowEnd(ONE, DDIM(4))
    assert np.isnan(end(jnp.full((1, 2), jnp.nan), 1.0)).all()
    assert np.isnan(eqx.filter_jit(end)(jnp.ones((1, 2)), jnp.array([-1.0]))).all()
    slope = jax.grad(lambda x: end(x, 1.0).sum())(jnp.ones((1, 2)))
    assert (slope > 0).all() and (slope < 1).all()


def test_strings_of_gaussian_noise_flow_as_one_hot_vectors():
    """From noise to strings of the language: the flow of the exact denoiser ends at corners."""
    rhm, _ = enumerated("uniform")
    end = FlowEnd(OneHotDenoiser(GrammarDenoiser(rhm, GaussianProcess(3))), DDIM(16))
    made = generate(jax.random.key(6), end, 64, sampler=Renoised())
    assert rhm.parse(made.argmax(-1).astype(jnp.int32)).valid[0].mean() > 0.9
    assert made.max(-1).min() > 0.9


def test_what_has_no_flow_is_refused():
    rhm, _ = enumerated("uniform")
    strings = GrammarDenoiser(rhm, GaussianProcess(3))
    with pytest.raises(ValueError, match=r"GaussianProcess has no flow: .*OneHotDenoiser"):
        FlowEnd(strings)
    with pytest.raises(ValueError, match="num_steps = 0: at least 1 needed"):
        Renoised(0)
    with pytest.raises(ValueError, match="Renoised with a denoiser that gives means: use another sampler"):
        Renoised()(jax.random.key(0), ONE, jnp.zeros((1, 2)), 1.0)
    with pytest.raises(ValueError, match="ReverseSDE with a denoiser that gives ends of the flow: use Renoised"):
        ReverseSDE()(jax.random.key(0), FlowEnd(ONE), jnp.zeros((1, 2)), 1.0)


class AtOnce(AbstractSampler):
    """A sampler of one's own for the flow of `ONE`, which has a closed form."""

    draws: ClassVar[bool] = False

    def undo_batch(self, key, denoiser, x_t, t):
        return x_t * (STD / jnp.sqrt(jnp.exp(-2 * t) * STD**2 - jnp.expm1(-2 * t)))[:, None]


def test_a_sampler_says_whether_it_draws():
    """By what it does with two keys; one that draws follows no flow, one of one's own that does not is accepted."""
    x = jnp.ones((3, 2))
    for sampler in (DDIM(4), ProbabilityFlow(4), AdaptiveFlow(0.1), AtOnce(), ReverseSDE(4)):
        first, second = (sampler(jax.random.key(seed), ONE, x, 1.0) for seed in (0, 1))
        assert sampler.draws == bool((first != second).any())
    np.testing.assert_allclose(FlowEnd(ONE, AtOnce())(x, 1.0), FlowEnd(ONE)(x, 1.0), rtol=0.01)
    with pytest.raises(ValueError, match="ReverseSDE draws: give DDIM, ProbabilityFlow or AdaptiveFlow"):
        FlowEnd(ONE, ReverseSDE())
