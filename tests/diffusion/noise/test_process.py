"""Noise processes: what is drawn has the law that the evidence states, the reverse undoes it, the limits are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion import (
    EpsilonBelief,
    GaussianProcess,
    Masking,
    UniformNoise,
    VarianceExploding,
    VariancePreserving,
    VectorProcess,
)
from diffusion.noise.process import AbstractChannel
from diffusion.noise.strings import cavity
from hierarchical import RandomHierarchyModel
from tests.laws import assert_drawn_from
from tests.references import channels, enumeration
from theory import cavity_marginals, marginals

V = 3
DRAWS = 20_000
SITES = jnp.arange(DRAWS, dtype=jnp.int32) % V  # one long string: sites are independent, so it is a sample

PROCESSES = {
    "masking": Masking(V),
    "uniform": UniformNoise(V),
    "gaussian-vp": GaussianProcess(V),
    "gaussian-ve": GaussianProcess(V, VarianceExploding()),
    "epsilon": EpsilonBelief(V),
}
CHANNELS = [name for name, process in PROCESSES.items() if isinstance(process, AbstractChannel)]
GAUSSIAN = [name for name in CHANNELS if isinstance(PROCESSES[name], GaussianProcess)]
TOKENS = [name for name in CHANNELS if name not in GAUSSIAN]
REFERENCE = {"masking": (channels.masking, channels.masking_step), "uniform": (channels.uniform, channels.uniform_step)}


def standardised(process, x_t, x0, t):
    """(x_t - alpha e_x) / sigma, from the definition: alpha^2 + sigma^2 = 1 or alpha = 1, SNR 1 / (e^2t - 1)."""
    preserving = isinstance(process.path, VariancePreserving)
    alpha, sigma = (np.exp(-t), np.sqrt(1 - np.exp(-2 * t))) if preserving else (1.0, np.sqrt(np.exp(2 * t) - 1))
    return (np.asarray(x_t) - alpha * np.eye(V)[np.asarray(x0)]) / sigma


def assert_follows_evidence(process, x_t, x0, t):
    """Counts against exp(log_likelihood) for tokens, standardised residuals against N(0, 1) for vectors."""
    if x_t.ndim == 2:
        assert stats.kstest(standardised(process, x_t, x0, t).ravel(), "norm").pvalue > 1e-3
        return
    values = jnp.arange(V + 1, dtype=jnp.int32)
    law = np.exp(np.asarray(jax.jit(process.log_likelihood)(values, t)))  # (values, x); jitted, for V is refused else
    for x in range(V):
        assert_drawn_from(np.bincount(np.asarray(x_t)[np.asarray(x0) == x], minlength=V + 1), law[:, x])


@pytest.mark.parametrize("t", [0.2, 0.7])
@pytest.mark.parametrize("name", CHANNELS)
def test_corrupt_draws_from_the_law_that_the_evidence_states(name, t):
    process = PROCESSES[name]
    assert_follows_evidence(process, jax.jit(process.corrupt)(jax.random.key(0), SITES, t), SITES, t)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", TOKENS)
def test_evidence_is_normalised_over_what_can_be_observed_and_excludes_the_rest(name, t):
    values = jnp.arange(-1, V + 2, dtype=jnp.int32)  # all symbols, the mask, and two that do not exist
    likelihood = jnp.exp(jax.jit(PROCESSES[name].log_likelihood)(values, t))
    np.testing.assert_allclose(likelihood.sum(0), np.ones(V), atol=1e-14)
    np.testing.assert_array_equal(likelihood[jnp.array([0, -1])], 0)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_evidence_is_the_normal_density(name):
    process, t = PROCESSES[name], 0.4
    x_t = jax.random.normal(jax.random.key(1), (5, V))
    candidates = np.arange(V)
    residual = standardised(process, np.asarray(x_t)[:, None], candidates, t)  # (5, V, V)
    sigma = 1 / (standardised(process, 1.0, 0, t) - standardised(process, 0.0, 0, t))[1]
    want = (stats.norm.logpdf(residual) - np.log(sigma)).sum(-1)
    np.testing.assert_allclose(process.log_likelihood(x_t, t), want, rtol=1e-12)


def test_epsilon_belief_keeps_the_string_and_fades_the_belief():
    process, eps = PROCESSES["epsilon"], 0.3
    np.testing.assert_array_equal(process.corrupt(jax.random.key(2), SITES, eps), SITES)
    belief = np.exp(process.log_likelihood(SITES[:V], eps))
    np.testing.assert_allclose(belief, np.where(np.eye(V) > 0, 1 - eps + eps / V, eps / V), rtol=1e-14)


@pytest.mark.parametrize("name", CHANNELS)
def test_at_time_zero_nothing_has_happened(name):
    process = PROCESSES[name]
    np.testing.assert_array_equal(process.decode(process.corrupt(jax.random.key(3), SITES, 0.0)), SITES)


@pytest.mark.parametrize("name", PROCESSES)
def test_at_the_largest_time_the_evidence_is_flat(name):
    """For Gaussian noise at t = 8, alpha / sigma = e^-8: symbols differ by (z_a - z_b) alpha / sigma, where |z| < 6."""
    process = PROCESSES[name]
    x_t = process.corrupt(jax.random.key(4), SITES, process.max_time)
    evidence = process.log_likelihood(x_t, process.max_time)
    assert float(jnp.max(jnp.ptp(evidence, axis=1))) < 12 * np.exp(-8.0)


@pytest.mark.parametrize("name", CHANNELS)
def test_prior_is_the_law_at_the_largest_time(name):
    process = PROCESSES[name]
    assert_follows_evidence(
        process, process.prior(jax.random.key(5), (DRAWS,), jnp.asarray(process.max_time)), SITES, process.max_time
    )


@pytest.mark.parametrize(("s", "t"), [(0.25, 0.7), (0.0, 0.7)])
@pytest.mark.parametrize("name", CHANNELS)
def test_with_x0_known_a_reverse_step_gives_the_channel_at_s(name, s, t):
    """Chapman-Kolmogorov: sum over x_t of q(x_t | x_0) p(x_s | x_t, x_0) = q(x_s | x_0)."""
    process, known = PROCESSES[name], jnp.log(jax.nn.one_hot(SITES, V))
    noise_key, step_key = jax.random.split(jax.random.key(6))
    x_t = process.corrupt(noise_key, SITES, t)
    x_s = jax.jit(process.reverse_step)(step_key, known, x_t, jnp.asarray(t), jnp.asarray(s))
    assert x_s.dtype == x_t.dtype
    if s == 0:
        np.testing.assert_array_equal(process.decode(x_s), SITES)
    else:
        assert_follows_evidence(process, x_s, SITES, s)


@pytest.mark.parametrize("name", TOKENS)
def test_reverse_step_has_the_joint_law_of_the_two_times(name):
    process, (channel, forward), s, t = PROCESSES[name], REFERENCE[name], 0.25, 0.7
    noise_key, step_key = jax.random.split(jax.random.key(7))
    x_t = process.corrupt(noise_key, SITES, t)
    x_s = process.reverse_step(step_key, jnp.log(jax.nn.one_hot(SITES, V)), x_t, jnp.asarray(t), jnp.asarray(s))
    step = forward(V, s, t)
    for x in range(V):
        expected = channel(V, s)[x][:, None] * step  # (x_s, x_t)
        counts = np.zeros_like(expected)
        here = np.asarray(SITES) == x
        np.add.at(counts, (np.asarray(x_s)[here], np.asarray(x_t)[here]), 1)
        assert_drawn_from(counts, expected)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_reverse_step_makes_the_added_noise_independent_of_x_s(name):
    """x_t = (alpha_t / alpha_s) x_s + noise of variance alpha_t^2 (1 / SNR_t - 1 / SNR_s), whatever x_s is."""
    process, s, t = PROCESSES[name], 0.25, 0.7
    noise_key, step_key = jax.random.split(jax.random.key(8))
    x_t = process.corrupt(noise_key, SITES, t)
    x_s = process.reverse_step(step_key, jnp.log(jax.nn.one_hot(SITES, V)), x_t, jnp.asarray(t), jnp.asarray(s))
    alpha_t, alpha_s = (np.exp(-t), np.exp(-s)) if isinstance(process.path, VariancePreserving) else (1.0, 1.0)
    added = (x_t - alpha_t / alpha_s * x_s) / (alpha_t * np.sqrt(np.exp(2 * t) - np.exp(2 * s)))
    assert stats.kstest(np.ravel(added), "norm").pvalue > 1e-3
    correlation = np.mean(np.ravel(added) * np.ravel(standardised(process, x_s, SITES, s)))
    assert abs(correlation) < 5 / np.sqrt(added.size)


def grammar_of_32_strings():
    """n = 4 classes, m = 2, s = 2, L = 2: n m^((d-1)/(s-1)) = 4 * 2^3 = 32 equally likely strings of d = 4 symbols."""
    rhm = RandomHierarchyModel(V, 2, 2, 2, num_classes=4, key=jax.random.key(9))
    data = enumeration.derivations([np.asarray(r) for r in rhm.rules], [np.full(r.shape[:2], 0.5) for r in rhm.rules])
    strings, prior = np.array([levels[-1] for _, levels in data]), np.array([weight for weight, _ in data])
    assert len(np.unique(strings, axis=0)) == 32
    return rhm, strings, prior


@pytest.fixture(scope="module")
def uniform_reverse():
    """Every x_t of four sites, with the exact one-site reverse kernel by enumeration and the evidence as input."""
    rhm, strings, prior = grammar_of_32_strings()
    s, t = 0.3, 0.6
    noised = channels.all_strings(V, 4)
    step = channels.uniform_step(V, s, t)
    kernel = channels.site_reverse_kernel(strings, prior, noised, channels.uniform(V, s), step)
    x_t = jnp.asarray(noised, jnp.int32)
    evidence = jax.jit(jax.vmap(UniformNoise(V).log_likelihood, (0, None)))(x_t, t)
    return rhm, x_t, s, t, evidence, kernel


def test_uniform_reverse_kernel_with_the_cavity_is_exact(uniform_reverse):
    rhm, x_t, s, t, evidence, kernel = uniform_reverse
    message = jnp.log(cavity_marginals(rhm, evidence)[-1])
    got = jax.jit(jax.vmap(UniformNoise(V).reverse_kernel, (0, 0, None, None)))(
        message, x_t, jnp.asarray(t), jnp.asarray(s)
    )
    np.testing.assert_allclose(np.exp(got), kernel, atol=1e-12)


def test_uniform_reverse_kernel_with_the_marginal_is_wrong(uniform_reverse):
    """The site's evidence is counted twice: too sure of what it sees, by 3% at least at some site of every x_t."""
    rhm, x_t, s, t, evidence, kernel = uniform_reverse
    posterior = jnp.log(marginals(rhm, evidence)[-1])
    got = jax.jit(jax.vmap(UniformNoise(V).reverse_kernel, (0, 0, None, None)))(
        posterior, x_t, jnp.asarray(t), jnp.asarray(s)
    )
    assert np.abs(np.exp(got) - kernel).max((1, 2)).min() > 0.03
    assert np.abs(np.exp(got) - kernel).max() > 0.1


def test_cavity_divides_the_evidence_out_of_the_posterior(uniform_reverse):
    rhm, _, _, _, evidence, _ = uniform_reverse
    posterior = jnp.log(marginals(rhm, evidence)[-1])
    np.testing.assert_allclose(jnp.exp(cavity(posterior, evidence)), cavity_marginals(rhm, evidence)[-1], atol=1e-12)


def test_uniform_reverse_step_draws_the_exact_kernel_from_the_posterior(uniform_reverse):
    rhm, x_t, s, t, evidence, kernel = uniform_reverse
    row, draws = 5, 5000
    posterior = jnp.log(marginals(rhm, evidence[row][None])[-1][0])
    step = jax.jit(jax.vmap(UniformNoise(V).reverse_step, (0, None, None, None, None)))
    x_s = np.asarray(step(jax.random.split(jax.random.key(10), draws), posterior, x_t[row], t, s))
    for site in range(4):
        assert_drawn_from(np.bincount(x_s[:, site], minlength=V), kernel[row, site])


def nishimori_gap(name, t):
    """Mean and standard error of p_true - sum_x p(x)^2 per site, by exact inference; error 0 where all is summed."""
    rhm, strings, prior = grammar_of_32_strings()
    process, x0 = PROCESSES[name], jnp.asarray(strings, jnp.int32)
    if name in TOKENS:  # every x_0 with every x_t
        noised = channels.all_strings(V + (name == "masking"), 4)
        weights = (prior[:, None] * channels.likelihoods(strings, noised, REFERENCE[name][0](V, t))).ravel()
        x0, x_t = jnp.repeat(x0, len(noised), 0), jnp.tile(jnp.asarray(noised, jnp.int32), (len(strings), 1))
    else:
        repeats = 1 if name == "epsilon" else 300
        x0 = jnp.tile(x0, (repeats, 1))
        x_t = jax.jit(jax.vmap(process.corrupt, (0, 0, None)))(jax.random.split(jax.random.key(11), len(x0)), x0, t)
        weights = np.full(len(x0), 1 / len(x0))
    evidence = jax.jit(jax.vmap(process.log_likelihood, (0, None)))(x_t, t)
    leaves = marginals(rhm, evidence)[-1]
    p_true = jnp.take_along_axis(leaves, x0[..., None], -1)[..., 0]
    gaps = np.asarray(jnp.mean(p_true - jnp.sum(leaves**2, -1), -1))
    stderr = gaps.std() / np.sqrt(len(gaps)) if name in GAUSSIAN else 0.0
    return (weights * gaps).sum(), stderr


@pytest.mark.parametrize("name", CHANNELS)
def test_nishimori_identity_holds_for_channels(name):
    """E[p(x_true)] = E[sum_x p(x)^2]: the truth is one more draw from the posterior."""
    mean, stderr = nishimori_gap(name, 0.5)
    assert abs(mean) < 5 * stderr + 1e-12


def test_nishimori_identity_fails_for_epsilon_beliefs():
    """The true symbol is always the favoured one, so p_true exceeds what the beliefs think of themselves."""
    assert nishimori_gap("epsilon", 0.5)[0] > 0.05


def test_both_gaussian_paths_have_the_signal_to_noise_ratio_of_ornstein_uhlenbeck_time():
    t = jnp.array([1e-6, 0.1, 1.0, 8.0])
    for path in (VariancePreserving(), VarianceExploding()):
        np.testing.assert_allclose(path.alpha(t) ** 2 / path.sigma(t) ** 2, 1 / np.expm1(2 * np.asarray(t)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", PROCESSES)
def test_evidence_has_the_precision_of_the_time(name, dtype):
    process, t = PROCESSES[name], jnp.asarray(0.3, dtype)
    x_t = process.corrupt(jax.random.key(12), SITES[:7], t)
    assert process.log_likelihood(x_t, t).dtype == dtype
    assert x_t.dtype == (dtype if name in GAUSSIAN else SITES.dtype)


@pytest.mark.parametrize("t", [1e-5, 0.3, 8.0])
@pytest.mark.parametrize("name", GAUSSIAN)
def test_float32_gaussian_beliefs_are_those_of_float64(name, t):
    """Beliefs are softmax(alpha x_t / sigma^2): a gap whose rounding error matters is so large that they are 0 or 1."""
    process = PROCESSES[name]
    x_t = process.corrupt(jax.random.key(13), SITES[:500], jnp.float32(t))
    single = jax.nn.softmax(process.log_likelihood(x_t, jnp.float32(t)))
    double = jax.nn.softmax(process.log_likelihood(x_t.astype(jnp.float64), jnp.float64(np.float32(t))))
    np.testing.assert_allclose(single, double, atol=1e-5)


@pytest.mark.parametrize("kind", [type(process) for name, process in PROCESSES.items() if name != "gaussian-ve"])
def test_an_alphabet_of_one_symbol_is_refused(kind):
    with pytest.raises(ValueError, match="num_symbols = 1: a string needs at least 2 symbols"):
        kind(1)


NARROW = [jnp.int8, jnp.uint8, jnp.int16, jnp.uint16, jnp.int32, jnp.uint32]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", ["masking", "uniform", "epsilon"])
def test_symbols_of_any_integer_dtype_are_noised_alike(name, dtype):
    """At the largest alphabet that the dtype can hold, where the mask, v, is one more than it can."""
    v = min(int(jnp.iinfo(dtype).max) + 1, 1000)
    process = type(PROCESSES[name])(v)
    x0 = np.array([0, 1, v - 1] * 20)
    wide = process.corrupt(jax.random.key(7), x0, 0.5)
    narrow = process.corrupt(jax.random.key(7), x0.astype(dtype), 0.5)
    jitted = jax.jit(process.corrupt)(jax.random.key(7), jnp.asarray(x0.astype(dtype)), 0.5)
    np.testing.assert_array_equal(narrow, wide)
    np.testing.assert_array_equal(jitted, wide)
    assert narrow.dtype == jitted.dtype == jnp.int32
    np.testing.assert_array_equal(process.log_likelihood(wide, 0.5).shape, (60, v))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_wrong_symbol_or_time_is_refused_by_name_and_marked_inside_jit(name):
    process = PROCESSES[name]
    with pytest.raises(ValueError, match=f"x0 holds the symbol {V}: give symbols 0 .. {V - 1}"):
        process.corrupt(jax.random.key(8), [0, V], 0.5)
    with pytest.raises(ValueError, match="x0 is of float64: a string holds integers"):
        process.corrupt(jax.random.key(8), [0.0, 1.0], 0.5)
    for t in (-0.1, process.last_time * 1.01, np.nan, np.inf):
        with pytest.raises(ValueError, match="is not a time of"):
            process.corrupt(jax.random.key(8), [0, 1], t)
    noised = jax.jit(process.corrupt)(jax.random.key(8), jnp.array([0, -1, V]), 0.01)
    np.testing.assert_array_equal(process.decode(noised)[1:] if name in CHANNELS else noised[1:], -1)
    noised = jax.jit(process.corrupt)(jax.random.key(8), jnp.array([0, 1]), -0.1)
    np.testing.assert_array_equal(process.decode(noised) if name in CHANNELS else noised, -1)


@pytest.mark.parametrize("name", [*PROCESSES, "arrays"])
def test_times_are_numbers_of_any_kind_one_for_all_or_one_for_each_datum(name):
    process = PROCESSES.get(name, VectorProcess())
    x0 = np.zeros((2, 3, 5), np.int32 if name in PROCESSES else np.float32)
    for one in (1, np.float64(1), jnp.asarray(1.0), True):
        np.testing.assert_array_equal(
            process.corrupt(jax.random.key(9), x0, one), process.corrupt(jax.random.key(9), x0, 1.0)
        )
    each = process.corrupt(jax.random.key(9), x0, [[0.2, 0.5, 0.7]] * 2)
    np.testing.assert_allclose(each[0, 1], process.corrupt(jax.random.key(9), x0, 0.5)[0, 1], rtol=1e-6)
    np.testing.assert_allclose(
        process.corrupt(jax.random.key(9), x0, [0.2, 0.5])[1], process.corrupt(jax.random.key(9), x0, 0.5)[1], rtol=1e-6
    )
    with pytest.raises(ValueError, match="t has shape"):
        process.corrupt(jax.random.key(9), x0, [0.1, 0.2, 0.3])


def test_old_style_keys_draw_what_typed_ones_draw():
    for key in (jax.random.PRNGKey(3), np.asarray(jax.random.PRNGKey(3))):
        np.testing.assert_array_equal(
            Masking(V).corrupt(key, SITES[:50], 0.5), Masking(V).corrupt(jax.random.key(3), SITES[:50], 0.5)
        )
    with pytest.raises(ValueError, match=r"key has shape \(3,\): give one key"):
        Masking(V).corrupt(jax.random.split(jax.random.key(3), 3), SITES[:50], 0.5)
