"""Every sampler has the law of the posterior when the denoiser is exact, and says so when it cannot be used."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    DDIM,
    Ancestral,
    EpsilonBelief,
    GaussianProcess,
    Masking,
    OneShot,
    RandomOrder,
    ReverseSDE,
    TreeUNet,
    UniformNoise,
    VarianceExploding,
    VectorProcess,
    forward_backward,
    from_flax,
    from_function,
)
from diffusion.sampling.choose import default_sampler
from diffusion.sampling.samplers import check_positive
from tests.grammars import enumerated
from tests.laws import assert_drawn_from, count
from tests.references import channels
from theory import marginals
from theory.exact import GrammarDenoiser

V = 3
DRAWS = 5_000
RHM, DATA = enumerated("uniform")  # 24 strings of 4 symbols
STRINGS = np.array([levels[-1] for _, levels in DATA], np.int32)
PRIOR = np.array([weight for weight, _ in DATA])
ALL_MASKED = jnp.full((DRAWS, 4), V, jnp.int32)


def sample(sampler, process, x_t, t, key=0):
    """DRAWS independent strings from one x_t."""
    rows = jnp.broadcast_to(x_t, (DRAWS, *jnp.shape(x_t)))
    run = eqx.filter_jit(lambda key, denoiser, x, t: sampler(key, denoiser, x, t))
    return run(jax.random.key(key), GrammarDenoiser(rhm=RHM, process=process), rows, jnp.full(DRAWS, t))


def masked():
    """One site shown, three masked, and the posterior over strings."""
    x_t = np.array([V, STRINGS[0, 1], V, V], np.int32)
    return jnp.asarray(x_t), channels.posteriors(STRINGS, PRIOR, x_t[None], channels.masking(V, 0.7))[0][0]


def network(process):
    return from_flax(TreeUNet(process, (2, 2), 8, rngs=nnx.Rngs(0)), process, 4, blind=True)


@pytest.mark.parametrize("sampler", [ReverseSDE(2), DDIM(2), Ancestral(2)], ids=lambda sampler: type(sampler).__name__)
def test_numbers_that_overflow_are_nan(sampler):
    def raw(params, x_t, t):
        return params * jnp.full_like(x_t, jnp.inf)

    denoiser = from_function(raw, jnp.float32(1), VectorProcess(), 1)
    assert jnp.isnan(sampler(jax.random.key(0), denoiser, jnp.ones((2, 1), jnp.float32), 0.9)).all()


@pytest.mark.parametrize("sampler", [OneShot(), RandomOrder(1)], ids=["one shot", "random order"])
def test_exact_samplers_of_masks_have_the_law_of_the_posterior(sampler):
    x_t, law = masked()
    assert_drawn_from(count(sample(sampler, Masking(V), x_t, 0.7), STRINGS), law)


def test_random_order_generates_the_language_from_nothing():
    """At t = 1 all is masked; the strings that are partly revealed on the way have no t = 1 any more."""
    assert_drawn_from(count(sample(RandomOrder(1), Masking(V), ALL_MASKED[0], 1.0), STRINGS), PRIOR)


def test_random_order_of_a_network_generates_every_symbol_from_nothing():
    """An untrained network has no reason to prefer one: NaN logits would all become symbol 0."""
    symbols = RandomOrder(1)(jax.random.key(1), network(Masking(V)), ALL_MASKED[:500], jnp.ones(500, jnp.float32))
    assert (np.bincount(np.ravel(symbols), minlength=V + 1)[:V] > 100).all()


def test_random_order_reveals_the_asked_number_of_sites_at_a_time():
    """With one step for all, sites are drawn independently: the product of the marginals."""
    x_t, law = masked()
    site = channels.site_marginals(law[None], STRINGS, V)
    every = channels.all_strings(V, 4)
    product = np.prod([site[0, i][every[:, i]] for i in range(4)], 0)
    assert_drawn_from(count(sample(RandomOrder(4), Masking(V), x_t, 0.7), every), product)


def assert_near(strings, law, bias):
    """Every string's frequency is right to 5 standard errors plus the stated bias, also outside the language."""
    strings = np.asarray(strings)
    frequency = np.array([(strings == string).all(1).mean() for string in STRINGS])
    frequency, law = np.append(frequency, 1 - frequency.sum()), np.append(law, 0)
    stderr = np.sqrt(np.maximum(law * (1 - law), 1 / len(strings)) / len(strings))
    assert (np.abs(frequency - law) < 5 * stderr + bias).all()


def test_ancestral_sampling_of_masks_converges_to_the_posterior():
    """While no two of the three masked sites are revealed in the same step, it is the chain rule in a random order. Two
    given sites coincide with probability 1 / steps, so all probabilities are right within 3 pairs / steps."""
    x_t, law = masked()
    assert_near(sample(Ancestral(64), Masking(V), x_t, 0.7), law, bias=3 / 64)


def uniform_chain(t, steps):
    """The law of Ancestral from every x_t, (noised, noised), multiplied out: exact kernels of single sites, drawn
    independently, at the times t, t (1 - 1 / steps), ..., 0."""
    every, law = channels.all_strings(V, 4), np.eye(V**4)
    times = t * np.linspace(1, 0, steps + 1)
    for now, then in itertools.pairwise(times):
        step = channels.uniform_step(V, then, now)
        kernel = channels.site_reverse_kernel(STRINGS, PRIOR, every, channels.uniform(V, then), step)
        law = law @ channels.independent_product(kernel, every)
    return every, law


def test_ancestral_sampling_of_uniform_noise_has_the_law_of_its_own_kernels_multiplied_out():
    t, steps, row = 0.6, 8, 5
    every, law = uniform_chain(t, steps)
    strings = sample(Ancestral(steps), UniformNoise(V), jnp.asarray(every[row], jnp.int32), t)
    assert_drawn_from(count(strings, every), law[row])


def test_the_multiplied_kernels_of_uniform_noise_converge_to_the_posterior_as_one_over_steps():
    """What the test above leaves open: total variation from the posterior, averaged over x_t, halves with the step."""
    t = 0.6
    every = channels.all_strings(V, 4)
    posterior, evidence = channels.posteriors(STRINGS, PRIOR, every, channels.uniform(V, t))
    exact = posterior @ (STRINGS[:, None] == every[None]).all(-1)
    distance = [evidence @ np.abs(uniform_chain(t, n)[1] - exact).sum(1) / 2 for n in (32, 64, 128)]
    np.testing.assert_allclose(np.divide(distance[1:], distance[:-1]), 0.5, atol=0.06)
    assert distance[-1] < 0.02


@pytest.mark.parametrize(
    "path", [None, pytest.param(VarianceExploding(), marks=pytest.mark.slow)], ids=["preserving", "exploding"]
)
def test_ancestral_sampling_of_gaussian_noise_converges_to_the_posterior(path):
    """Each string's probability is right to 5 standard errors plus the step-size bias, which is of order 1 / steps."""
    process = GaussianProcess(V) if path is None else GaussianProcess(V, path)
    t, steps = 0.8, 64
    x_t = process.corrupt(jax.random.key(3), jnp.asarray(STRINGS[3]), t)
    density = np.asarray(process.log_likelihood(x_t, t))[np.arange(4), STRINGS].sum(1)
    law = np.exp(density - density.max()) / np.exp(density - density.max()).sum()
    assert_near(sample(Ancestral(steps), process, x_t, t), law, bias=1 / steps)


def test_default_sampler_is_the_most_exact_one():
    assert default_sampler(GrammarDenoiser(rhm=RHM, process=UniformNoise(V))) == OneShot()
    assert default_sampler(network(Masking(V))) == RandomOrder(1)
    assert isinstance(default_sampler(network(UniformNoise(V))), Ancestral)


REFUSED = {
    "NetworkDenoiser knows only the posterior of each part: use Ancestral": lambda: (OneShot(), network(Masking(V))),
    "RandomOrder reveals masks; UniformNoise has none": lambda: (
        RandomOrder(1),
        GrammarDenoiser(rhm=RHM, process=UniformNoise(V)),
    ),
    "EpsilonBelief is not a channel and has no reverse": lambda: (
        Ancestral(2),
        GrammarDenoiser(rhm=RHM, process=EpsilonBelief(V)),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_sampler_that_cannot_be_used_says_so(message):
    sampler, denoiser = REFUSED[message]()
    with pytest.raises(ValueError, match=message):
        sampler(jax.random.key(4), denoiser, jnp.zeros((2, 4), jnp.int32), jnp.full(2, 0.5))


@pytest.mark.parametrize(("kind", "name"), [(Ancestral, "num_steps"), (RandomOrder, "tokens_per_step")])
def test_a_sampler_without_steps_is_refused(kind, name):
    with pytest.raises(ValueError, match=f"{name} = 0: at least 1 needed"):
        kind(0)
    for value in (2.5, 2.0, True):  # by itself, for the type checker of the tests refuses them before
        with pytest.raises(ValueError, match=f"{name} = {value}: at least 1 needed, a whole number"):
            check_positive(name, value)
    check_positive(name, np.int64(2))


def regenerated(channel):
    """p(x_0' | x_0) = sum over x_t of q(x_t | x_0) p(x_0' | x_t) from the first string."""
    noised = channels.all_strings(channel.shape[1], 4)
    weights, _ = channels.posteriors(STRINGS, PRIOR, noised, channel)
    return channels.likelihoods(STRINGS[:1], noised, channel)[0] @ weights


@pytest.mark.parametrize(
    ("process", "channel"),
    [(Masking(V), channels.masking), (UniformNoise(V), channels.uniform)],
    ids=["mask", "uniform"],
)
def test_forward_backward_has_the_enumerated_law(process, channel):
    strings = forward_backward(
        jax.random.key(5),
        GrammarDenoiser(rhm=RHM, process=process),
        jnp.asarray(STRINGS[0]),
        0.5,
        num_trajectories=DRAWS,
    )
    assert_drawn_from(count(strings, STRINGS), regenerated(channel(V, 0.5)))


def test_forward_backward_noises_each_row_from_its_own_time():
    process, t = Masking(V), jnp.where(jnp.arange(DRAWS) < DRAWS // 2, 0.2, 0.8)
    x0 = jnp.broadcast_to(jnp.asarray(STRINGS[0]), (DRAWS, 4))
    strings = forward_backward(jax.random.key(6), GrammarDenoiser(rhm=RHM, process=process), x0, t)[0]
    assert_drawn_from(count(strings[: DRAWS // 2], STRINGS), regenerated(channels.masking(V, 0.2)))
    assert_drawn_from(count(strings[DRAWS // 2 :], STRINGS), regenerated(channels.masking(V, 0.8)))


def test_forward_backward_is_a_function_of_its_key():
    process = Masking(V)

    def run(seed):
        denoiser = GrammarDenoiser(rhm=RHM, process=process)
        return forward_backward(jax.random.key(seed), denoiser, jnp.asarray(STRINGS[0]), 0.5, num_trajectories=50)

    np.testing.assert_array_equal(run(7), run(7))
    assert (run(7) != run(8)).any()


def test_forward_backward_takes_batch_axes_and_one_time_or_one_for_each():
    denoiser = GrammarDenoiser(rhm=RHM, process=Masking(V))
    x0 = jnp.asarray(STRINGS[:6]).reshape(2, 3, 4)
    times = jnp.array([[0.2, 0.5, 0.8]] * 2)
    again = forward_backward(jax.random.key(9), denoiser, x0, times, num_trajectories=5)
    rows = forward_backward(jax.random.key(9), denoiser, x0.reshape(6, 4), times.reshape(6), num_trajectories=5)
    np.testing.assert_array_equal(again.reshape(5, 6, 4), rows)
    assert forward_backward(jax.random.key(9), denoiser, x0, 0.5).shape == (1, 2, 3, 4)
    first = forward_backward(jax.random.key(9), denoiser, x0, jnp.array([0.0, 0.5]), num_trajectories=5)[:, 0]
    np.testing.assert_array_equal(first, jnp.broadcast_to(x0[0], (5, 3, 4)))  # t = 0: nothing is noised


@pytest.mark.parametrize(
    ("process", "t"),
    [
        (Masking(V), 0.5),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((UniformNoise(V), 0.4), (GaussianProcess(V), 0.2))),
    ],
    ids=["mask", "uniform", "vp"],
)
def test_class_retention_of_the_exact_denoiser_is_its_own_confidence(process, t):
    """Nishimori: P(class kept) = E sum_k r_k^2, r the posterior of the class: the regenerated class is a draw from r,
    and the true one is another."""
    data_key, noise_key, key = jax.random.split(jax.random.key(11), 3)
    classes = np.array([levels[0][0] for _, levels in DATA])
    truth = jax.random.randint(data_key, (DRAWS,), 0, len(STRINGS))  # all strings are equally likely
    x0 = jnp.asarray(STRINGS)[truth]
    strings = forward_backward(key, GrammarDenoiser(rhm=RHM, process=process), x0, jnp.full(DRAWS, t))[0]
    index = {tuple(string): i for i, string in enumerate(STRINGS.tolist())}
    kept = classes[[index[tuple(string)] for string in strings.tolist()]] == classes[np.asarray(truth)]
    x_t = jax.jit(jax.vmap(process.corrupt, (0, 0, None)))(jax.random.split(noise_key, DRAWS), x0, t)
    r = marginals(RHM, jax.jit(jax.vmap(process.log_likelihood, (0, None)))(x_t, t))[0][:, 0]
    confidence = np.asarray(jnp.sum(r**2, -1))
    assert 0.45 < confidence.mean() < 0.95  # neither lost (1/3) nor certain
    stderr = math.hypot(kept.std(), confidence.std()) / math.sqrt(DRAWS)
    assert abs(kept.mean() - confidence.mean()) < 5 * stderr


@pytest.mark.parametrize("sampler", [OneShot(), pytest.param(RandomOrder(), marks=pytest.mark.slow), Ancestral(2)])
def test_a_mask_that_was_not_noised_is_no_symbol(sampler):
    x = sampler(jax.random.key(0), GrammarDenoiser(RHM, Masking(V)), jnp.array([V, *STRINGS[0, 1:]]), 0.0)
    np.testing.assert_array_equal(x, [-1, *STRINGS[0, 1:]])
