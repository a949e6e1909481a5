"""What a user adds without editing a library file: a law, a source, a denoiser, a sampler; and what any of them takes.

Each is the smallest of its kind, with a closed form beside it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from diffusion import (
    AbstractSampler,
    AbstractSource,
    AbstractTokenDenoiser,
    AbstractVectorDenoiser,
    Finite,
    Fresh,
    Masking,
    TrainConfig,
    UniformNoise,
    VectorMLP,
    VectorProcess,
    default_sampler,
    forward_backward,
    from_flax,
    from_function,
    generate,
    train,
)
from diffusion.sampling.reverse import ReverseSDE
from hierarchical import (
    AbstractLaw,
    GaussianMixture,
    MarkovChain,
    RandomHierarchyModel,
    Ring,
    Sample,
    TreeGaussian,
    sample_each,
    tree_mixture,
)
from tests.grammars import enumerated
from theory.exact import EmpiricalDenoiser, GrammarDenoiser, MarkovDenoiser, MixtureDenoiser

V = 3
QUICK = TrainConfig(steps=30, batch_size=16, warmup_steps=5, steps_per_chunk=15)


class Dice(AbstractLaw):
    """Strings of independent symbols: the law of one's own."""

    probabilities: jax.Array
    sites: int = eqx.field(static=True)

    def sample(self, key, shape=()):
        def draw(key):
            return Sample(jax.random.categorical(key, jnp.log(self.probabilities), shape=(self.sites,)), None)

        return sample_each(draw, key, shape)


class DiceDenoiser(AbstractTokenDenoiser):
    """Its exact denoiser: evidence times prior at every site."""

    law: Dice
    process: Masking | UniformNoise

    @property
    def shape(self):
        return (self.law.sites,)

    def denoise_batch(self, x_t, t):
        return jax.nn.log_softmax(
            self.process.site_evidence(x_t, t[:, None]) + jnp.log(self.law.probabilities)[None, None]
        )


class Alternating(AbstractSource):
    """A source of one's own: half of a batch from one source, half from another."""

    first: AbstractSource
    second: AbstractSource

    def batch(self, key, size):
        one, two, order = jax.random.split(key, 3)
        both = jnp.concatenate([self.first.batch(one, size // 2), self.second.batch(two, size - size // 2)])
        return jax.random.permutation(order, both)


class MostLikely(AbstractSampler):
    """A sampler of one's own: the most likely symbol of each site."""

    def undo_batch(self, key, denoiser, x_t, t):
        return jnp.argmax(denoiser.denoise_batch(x_t, t), -1).astype(jnp.int32)


DICE = Dice(jnp.array([0.5, 0.3, 0.2]), 6)


def test_a_law_of_ones_own_is_drawn_noised_and_denoised():
    drawn = DICE.sample(jax.random.key(0), (4000,)).x
    counts = np.bincount(np.ravel(drawn), minlength=V)
    assert stats.chisquare(counts, 24_000 * np.array([0.5, 0.3, 0.2])).pvalue > 1e-3
    denoiser = DiceDenoiser(DICE, Masking(V))
    again = forward_backward(jax.random.key(1), denoiser, drawn, 1.0)  # all is masked: drawn anew
    counts = np.bincount(np.ravel(again), minlength=V)
    assert stats.chisquare(counts, 24_000 * np.array([0.5, 0.3, 0.2])).pvalue > 1e-3


def test_a_sampler_of_ones_own_is_used():
    denoiser = DiceDenoiser(DICE, UniformNoise(V))
    again = forward_backward(jax.random.key(2), denoiser, np.full((5, 6), 2), 0.0, sampler=MostLikely())
    np.testing.assert_array_equal(again, 2)
    again = forward_backward(jax.random.key(2), denoiser, np.full((5, 6), 2), 1.0, sampler=MostLikely())
    np.testing.assert_array_equal(again, 0)


def softmax_of_logits(params, x_t, t):
    return jnp.broadcast_to(params, (*x_t.shape, V))


def test_a_source_of_ones_own_is_trained_on():
    """The network is one row of logits: it must come to the frequencies of both sources together."""
    fresh, ones = Fresh(DICE), Finite(np.full((4, 6), 1))
    denoiser = from_function(softmax_of_logits, jnp.zeros(V, jnp.float32), Masking(V), 6)
    config = TrainConfig(steps=400, batch_size=64, learning_rate=0.1, weight_decay=0.0, ema_decay=0.98)
    trained = train(jax.random.key(3), denoiser, Alternating(fresh, ones), config)
    np.testing.assert_allclose(jax.nn.softmax(trained.denoiser.params), [0.25, 0.65, 0.1], atol=0.02)


LAWS = {
    "grammar": lambda: enumerated("uniform")[0],
    "chain": lambda: MarkovChain(np.full(V, 1 / V), np.full((3, V, V), 1 / V)),
    "mixture": lambda: GaussianMixture([1, 2], [[0, 1], [2, 0]], 0.3),
    "tree": lambda: tree_mixture(jax.random.key(4), 4, (2.0, 1.0)),
    "tree of Gaussians": lambda: TreeGaussian(2, (0.5, 0.3, 0.2)),
    "ring": lambda: Ring(0.4, 0.1),
    "own": lambda: DICE,
}


FIRST = "grammar", "mixture", "own"  # the others are slow


@pytest.mark.parametrize("name", [*FIRST, *(pytest.param(n, marks=pytest.mark.slow) for n in LAWS if n not in FIRST)])
def test_any_law_is_sampled_in_any_shape_and_trained_on(name):
    law = LAWS[name]()
    one, many = law.sample(jax.random.key(5)), law.sample(jax.random.PRNGKey(5), (2, 3))
    assert many.x.shape == (2, 3, *one.x.shape)
    assert jax.tree.map(lambda leaf: leaf.shape[:2], many.latent) == jax.tree.map(lambda leaf: (2, 3), many.latent)
    if jnp.issubdtype(one.x.dtype, jnp.integer):
        denoiser = from_function(softmax_of_logits, jnp.zeros(V, jnp.float32), Masking(V), one.x.shape)
    else:
        network = VectorMLP(one.x.shape[0], 8, num_blocks=1, rngs=nnx.Rngs(0))
        denoiser = from_flax(network, VectorProcess(), one.x.shape)
    trained = train(jax.random.key(6), denoiser, Fresh(law), QUICK)
    assert np.isfinite(trained.losses).all()


def test_generation_begins_where_training_did():
    network = from_flax(VectorMLP(2, 8, num_blocks=1, rngs=nnx.Rngs(0)), VectorProcess(), 2)
    assert network.max_time == VectorProcess.max_time == 8
    trained = train(jax.random.key(7), network, Fresh(LAWS["mixture"]()), QUICK).denoiser
    assert trained.max_time == 4  # `LogSNRSchedule`'s
    seen = []

    class Recorder(AbstractSampler):
        def undo_batch(self, key, denoiser, x_t, t):
            seen.append(x_t.shape)
            return x_t * 0 + t[:, None]

    made = generate(jax.random.key(8), trained, (2, 3), sampler=Recorder())
    np.testing.assert_array_equal(made, np.full((2, 3, 2), 4.0))


class StandardNormal(AbstractVectorDenoiser):
    """The exact denoiser of N(0, 1), which does not say that it could draw from the posterior."""

    process: VectorProcess = VectorProcess()

    @property
    def shape(self):
        return (4,)

    def denoise_batch(self, x_t, t):
        return self.process.path.alpha(t)[:, None].astype(x_t.dtype) * x_t


@pytest.mark.parametrize("t", [8.0, *(pytest.param(t, marks=pytest.mark.slow) for t in (1.5, 3.0))])
def test_the_default_sampler_of_arrays_keeps_the_variance_within_two_percent(t):
    """40,000 numbers: a standard error of .7%; the recursion of the variance in reverse.py gives .9966 to .9861."""
    x0 = jax.random.normal(jax.random.key(9), (10_000, 4))
    assert isinstance(default_sampler(StandardNormal()), ReverseSDE)
    again = forward_backward(jax.random.key(10), StandardNormal(), x0, t)
    assert abs(float(jnp.var(again)) - 1) < 0.02
    assert abs(float(jnp.var(generate(jax.random.key(11), StandardNormal(), 10_000))) - 1) < 0.02


DENOISERS = {
    "grammar": lambda: GrammarDenoiser(enumerated("uniform")[0], Masking(V)),
    "chain": lambda: MarkovDenoiser(LAWS["chain"](), UniformNoise(V)),
    "strings": lambda: EmpiricalDenoiser(np.arange(12).reshape(3, 4) % V, UniformNoise(V)),
    "network": lambda: from_function(softmax_of_logits, jnp.zeros(V), Masking(V), 4),
    "own": lambda: DiceDenoiser(Dice(DICE.probabilities, 4), UniformNoise(V)),
    "mixture": lambda: MixtureDenoiser(GaussianMixture([1, 2], np.eye(2, 4), 0.3)),
    "points": lambda: EmpiricalDenoiser(np.eye(3, 4), VectorProcess()),
    "vectors": lambda: StandardNormal(),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in ("chain", "points") else ()) for n in DENOISERS]
)
def test_denoisers_take_batch_axes_lists_and_any_times(name):
    denoiser = DENOISERS[name]()
    x = np.tile(np.arange(4) % V, (2, 3, 1))
    x = x if isinstance(denoiser.process, Masking | UniformNoise) else x.astype(float)
    times = np.array([[0.2, 0.4, 0.6]] * 2)
    known = denoiser(x, times)
    for i, j in ((0, 0), (1, 2)):
        np.testing.assert_allclose(known[i, j], denoiser(x[i, j], times[i, j]), rtol=1e-6)
        np.testing.assert_allclose(known[i, j], denoiser(x[i, j].tolist(), float(times[i, j])), rtol=1e-6)
    np.testing.assert_allclose(eqx.filter_jit(denoiser)(x, times), known, rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="x_t has shape"):
        denoiser(x[..., :3], 0.5)
    with pytest.raises(ValueError, match="t has shape"):
        denoiser(x, [0.1, 0.2, 0.3])


class Broken(AbstractTokenDenoiser):
    """Says the same row at every site."""

    row: jax.Array
    process: Masking | UniformNoise

    @property
    def shape(self):
        return (4,)

    def denoise_batch(self, x_t, t):
        return jnp.broadcast_to(self.row, (*x_t.shape, V))


@pytest.mark.parametrize("row", [[np.nan] * 3, [np.inf, 0, 0], [-np.inf] * 3, [0, np.nan, 0]])
@pytest.mark.parametrize("process", [Masking(V), UniformNoise(V)], ids=["masking", "uniform"])
def test_weights_that_are_no_law_give_no_symbol(process, row):
    """A network that overflows or divides by zero regenerates no symbol, not symbol 0."""
    again = forward_backward(jax.random.key(12), Broken(jnp.asarray(row), process), np.ones((50, 4), int), 0.7)[0]
    assert set(np.unique(again)) <= {-1, 1}
    assert (np.asarray(again) == -1).mean() > 0.5


def test_a_point_at_infinity_is_not_data_and_one_far_away_is():
    """In float32 the square of its distance overflows, its posterior does not."""
    mixture = GaussianMixture(np.ones(2, np.float32), np.eye(2, dtype=np.float32), np.float32(1))
    far = np.array([1e20, -1e20], np.float32)
    denoiser, infinite = MixtureDenoiser(mixture), far * np.inf
    mean = np.exp(-0.5) * far  # of N(mu, 1) it is mu + alpha (x - alpha mu), for the total variance is 1
    both = jax.jit(lambda x: (denoiser(x, 0.5), denoiser.posterior_sample(jax.random.key(13), x, 0.5)))
    for found in both(far):
        np.testing.assert_allclose(found, mean, rtol=1e-5)
    assert all(np.isnan(found).all() for found in both(infinite))


def test_the_score_does_not_cancel_at_small_times():
    """Of N(0, 1), whose noised law is itself, it is -x at all times; of one point m, (alpha m - x) / sigma^2."""
    x = np.array([0.5, -1.0, 2.0, 0.1], np.float32)
    normal = from_function(lambda params, x_t, t: 0 * x_t, (), VectorProcess(), 4)  # what a network of f = 0 is
    point = EmpiricalDenoiser(x[None], VectorProcess())
    for t in (1e-9, 1e-4, 1.0):
        np.testing.assert_allclose(normal.score(x, np.float32(t)), -x, rtol=1e-5)
        variance = -np.expm1(-2 * t)
        np.testing.assert_allclose(point.score(x, np.float32(t)), np.expm1(-t) * x / variance, rtol=1e-5)


def test_the_grammar_has_one_triple_of_sizes_where_levels_agree():
    assert RandomHierarchyModel(8, 3, 2, 4, key=jax.random.key(0)).sizes == (8, 3, 2)
    with pytest.raises(ValueError, match="levels differ: symbols"):
        RandomHierarchyModel(8, 3, 2, 4, num_classes=5, key=jax.random.key(0)).sizes  # noqa: B018
