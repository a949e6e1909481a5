"""Training with a teacher: the same mean and minimum as with data, without the scatter of the data."""

import dataclasses
import functools
import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import (
    DDIM,
    Finite,
    FlowEnd,
    Fresh,
    Masking,
    Preconditioned,
    Renoised,
    ReverseSDE,
    TrainConfig,
    TreeUNet,
    UniformNoise,
    VectorMLP,
    VectorProcess,
    default_sampler,
    from_flax,
    from_function,
    generate,
    load,
    save,
    train,
)
from diffusion.denoise.loss import expected_loss, site_weights
from hierarchical import GaussianMixture
from tests.grammars import enumerated
from theory.exact import EmpiricalDenoiser, GrammarDenoiser, MixtureDenoiser

V, D = 3, 4
RHM, DATA = enumerated("uniform")
PROCESS = Masking(V)
EXACT = GrammarDenoiser(RHM, PROCESS)
X_T = jnp.array([[0, 3, 3, 1], [3, 3, 3, 3], [3, 0, 3, 3]])
X_T = jnp.where(X_T == 3, 3, jnp.broadcast_to(jnp.array(DATA[0][1][-1]), X_T.shape))  # possible ones
T = jnp.full(len(X_T), 0.5, jnp.float32)


ONE_SITE = jnp.array([[0.5, 0.0]])


def network(process=PROCESS, blind=True):
    return from_flax(TreeUNet(process, (2, 2), 8, rngs=nnx.Rngs(0)), process, D, blind=blind)


@functools.cache
def posterior_strings():
    """All strings with their exact probabilities given each of X_T, from the list of derivations."""
    strings = np.array([levels[-1] for _, levels in DATA])
    weights = np.array([weight for weight, _ in DATA])
    fits = [np.where(np.asarray(x) == V, True, strings == np.asarray(x)).all(1) * weights for x in X_T]
    return strings, np.array([row / row.sum() for row in fits])


def test_the_loss_beside_an_exact_teacher_is_the_mean_of_the_loss_over_the_posterior():
    """Given x_t, of a network that sees the sites."""
    student = network(blind=False)
    strings, weights = posterior_strings()

    @jax.jit
    def loss(string):
        return student.loss(jnp.broadcast_to(string, X_T.shape), X_T, T)

    means = sum(weights[:, i] * np.asarray(loss(string)) for i, string in enumerate(strings))
    np.testing.assert_allclose(student.distillation_loss(EXACT, X_T, T), means, rtol=1e-5)


def test_of_a_blind_network_both_losses_agree_on_average_over_strings_and_masks():
    """All strings, each with all 2^4 masks, equally likely as at t = 1/2: no sampling error."""
    student = network()
    strings = np.array([levels[-1] for _, levels in DATA])
    weights = np.repeat([weight for weight, _ in DATA], 2**D) / 2**D
    masks = (np.arange(2**D)[:, None] >> np.arange(D)) % 2 == 1
    x0 = jnp.asarray(np.repeat(strings, 2**D, 0))
    x_t = jnp.where(jnp.asarray(np.tile(masks, (len(strings), 1))), V, x0)
    t = jnp.full(len(x0), 0.5, jnp.float32)
    data, taught = jax.jit(lambda: (student.loss(x0, x_t, t), student.distillation_loss(EXACT, x_t, t)))()
    assert abs(np.asarray(data - taught)).max() > 0.1  # not string by string
    np.testing.assert_allclose(weights @ np.asarray(data, float), weights @ np.asarray(taught, float), rtol=1e-5)


def test_the_exact_cavity_is_the_law_of_a_site_by_the_others_masks_or_not():
    strings, _ = posterior_strings()
    prior = np.array([weight for weight, _ in DATA])
    got = np.exp(EXACT.cavity(X_T, 0.5))
    for row, x in enumerate(np.asarray(X_T)):
        for site in range(D):
            others = (x == V) | (strings == x)
            others[:, site] = True
            fit = others.all(1) * prior
            law = [fit[strings[:, site] == symbol].sum() for symbol in range(V)]
            np.testing.assert_allclose(got[row, site], np.array(law) / sum(law), atol=1e-6)


def test_the_exact_cavity_agrees_with_the_posterior_divided_by_the_evidence():
    exact = GrammarDenoiser(RHM, UniformNoise(V))
    x_t, t = jnp.array([[0, 1, 2, 0], [2, 2, 1, 0]]), jnp.array([0.3, 0.6])
    divided = jax.nn.log_softmax(exact(x_t, t) - exact.process.log_likelihood(x_t, t))
    np.testing.assert_allclose(exact.cavity(x_t, t), divided, atol=1e-5)


def test_the_teacher_itself_is_the_minimum():
    """The gradient by the logits vanishes at the teacher's own posterior."""
    known = jnp.array([[[0.2, 0.5, 0.3], [0.0, 0.9, 0.1]]])
    weights = jnp.array([[0.5, 0.5]])

    def loss(logits):
        return expected_loss(jax.nn.log_softmax(logits), jnp.log(known), weights)[0]

    start = jnp.where(known > 0, jnp.log(known), -1e3)
    value, slope = jax.value_and_grad(loss)(start)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    np.testing.assert_allclose(value, -np.sum(known * np.log(np.where(known > 0, known, 1))) / 2, rtol=1e-5)
    assert loss(start + jnp.array([0.1, 0.0, 0.0])[None, None]) > value


def test_sites_without_weight_are_left_out_and_no_others():
    """NaN, an impossible site, and numbers that do not add up to 1 give NaN where they count."""
    own = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (1, 2, 3)))
    row = [0.2, 0.5, 0.3]
    for odd in ([jnp.nan] * 3, [0.0] * 3, [1.0] * 3):
        teacher = jnp.log(jnp.array([[row, odd]]))
        got, slope = jax.value_and_grad(lambda own, known=teacher: expected_loss(own, known, ONE_SITE)[0])(own)
        np.testing.assert_allclose(got, -0.5 * jnp.sum(jnp.array(row) * own[0, 0]), rtol=1e-6)
        assert np.isfinite(slope).all() and (slope[0, 1] == 0).all()
        assert np.isnan(expected_loss(own, teacher, jnp.full((1, 2), 0.5))).all()


def test_a_teacher_without_a_cavity_of_visible_sites_teaches_the_masked_ones():
    """A network that sees the sites has none; the exact denoisers have."""
    strings = jnp.asarray(np.unique(posterior_strings()[0], axis=0)[:20], jnp.int32)
    for teacher in (network(blind=False), EmpiricalDenoiser(strings, PROCESS)):
        result = train(
            jax.random.key(1), network(), Finite(strings), TrainConfig(steps=4, batch_size=8, steps_per_chunk=2),
            teacher=teacher,
        )  # fmt: skip
        assert np.isfinite(result.losses).all()


@pytest.mark.slow
def test_a_teacher_takes_a_network_closer_to_the_exact_denoiser_than_data_do():
    """300 steps of 32 strings: the excess over the exact loss is at least three times smaller."""
    config = TrainConfig(steps=300, batch_size=32, learning_rate=5e-3, warmup_steps=20)
    excess = []
    for teacher in (None, EXACT):
        made = train(jax.random.key(2), network(), Fresh(RHM), config, teacher=teacher).denoiser
        rows = RHM.sample(jax.random.key(3), (4096,)).x
        x_t = jax.vmap(PROCESS.corrupt, (0, 0, None))(jax.random.split(jax.random.key(4), 4096), rows, 0.5)
        weights, t = site_weights(PROCESS, x_t), jnp.full(4096, 0.5, jnp.float32)
        known = EXACT.denoise_batch(x_t, t)
        ours, exact = (expected_loss(log_probs, known, weights) for log_probs in (made.denoise_batch(x_t, t), known))
        excess.append(float(jnp.mean(ours - exact)))
    assert 0 < 3 * excess[1] < excess[0]


def test_of_arrays_the_teacher_gives_the_mean():
    mixture = GaussianMixture(jnp.ones(2) / 2, jnp.array([[-1.0, 0.0], [1.0, 0.0]]), 0.2)
    exact = MixtureDenoiser(mixture, VectorProcess())
    student = from_flax(VectorMLP(2, 8, rngs=nnx.Rngs(0)), VectorProcess(), (2,), parametrisation=Preconditioned())
    x_t, t = jax.random.normal(jax.random.key(5), (3, 2)), jnp.array([0.2, 1.0, 2.0])
    np.testing.assert_array_equal(
        student.distillation_loss(exact, x_t, t), student.loss(exact.denoise_batch(x_t, t), x_t, t)
    )
    result = train(jax.random.key(6), student, Fresh(mixture), TrainConfig(steps=2, batch_size=8), teacher=exact)
    assert np.isfinite(result.losses).all()


def test_another_teacher_makes_another_training(tmp_path):
    config = TrainConfig(steps=2, batch_size=8, steps_per_chunk=2)
    train(jax.random.key(7), network(), Fresh(RHM), config, folder=tmp_path / "run")
    with pytest.raises(Exception, match="teacher"):
        train(jax.random.key(7), network(), Fresh(RHM), config, folder=tmp_path / "run", teacher=EXACT)


def test_a_network_that_sees_the_sites_knows_no_cavity_where_they_are_visible():
    """Its output there never enters the loss, so a blind student is not taught it."""
    seeing = network(blind=False)
    known = np.isfinite(np.asarray(seeing.cavity(X_T, 0.5))).all(-1)
    np.testing.assert_array_equal(known, np.asarray(X_T) == V)
    assert np.isfinite(network().distillation_loss(seeing, X_T, T)).all()
    assert np.isfinite(network(UniformNoise(V), blind=False).cavity(jnp.zeros((1, D), jnp.int32), 0.5)).all()


def test_a_student_of_ends_is_marked_as_such(tmp_path):
    """It generates by `Renoised` and has no score; saved and loaded too."""
    exact = MixtureDenoiser(GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), 0.5), VectorProcess())
    student = from_flax(VectorMLP(2, 8, rngs=nnx.Rngs(0)), VectorProcess(), (2,))
    config, source = TrainConfig(steps=2, batch_size=8), Fresh(exact.mixture)
    made = train(jax.random.key(8), student, source, config, teacher=FlowEnd(exact, DDIM(2))).denoiser
    save(made, tmp_path / "saved")
    for denoiser in (made, load(tmp_path / "saved")):
        assert denoiser.gives_ends and isinstance(default_sampler(denoiser), Renoised)
        with pytest.raises(ValueError, match="it has no score, ask its teacher"):
            denoiser.score(jnp.ones((1, 2)), 1.0)
        with pytest.raises(ValueError, match="ReverseSDE with a denoiser that gives ends of the flow: use Renoised"):
            generate(jax.random.key(0), denoiser, 2, sampler=ReverseSDE())
    again = train(jax.random.key(8), student, source, config, teacher=exact).denoiser
    assert not again.gives_ends


def test_a_teacher_that_does_not_know_the_data_or_the_times_is_refused():
    config = TrainConfig(steps=1, batch_size=8)
    silent = from_function(lambda _, x_t, t: jnp.full((*x_t.shape, V), jnp.nan), (), PROCESS, D)
    with pytest.raises(ValueError, match="the teacher gives no finite loss at t = 1 of these data"):
        train(jax.random.key(0), network(), Fresh(RHM), config, teacher=silent)
    half = dataclasses.replace(network(), trained_from=0.1, trained_up_to=0.5)
    with pytest.raises(ValueError, match=r"times 0 .. 1 are outside of those that the teacher knows, 0.1 .. 0.5"):
        train(jax.random.key(0), network(), Fresh(RHM), config, teacher=half)


def test_a_teacher_of_other_noise_or_data_is_refused():
    with pytest.raises(ValueError, match=r"the teacher undoes UniformNoise.* the network Masking"):
        other = GrammarDenoiser(RHM, UniformNoise(V))
        train(jax.random.key(0), network(), Fresh(RHM), TrainConfig(steps=1), teacher=other)
    with pytest.raises(ValueError, match="teacher is RandomHierarchyModel: give a denoiser"):
        no_denoiser: typing.Any = RHM
        inspect.unwrap(train)(jax.random.key(0), network(), Fresh(RHM), TrainConfig(steps=1), teacher=no_denoiser)
    longer = from_function(lambda params, x_t, t: jnp.zeros((*x_t.shape, V)), (), PROCESS, 5)
    with pytest.raises(ValueError, match=r"of data \(5,\), the network .* of \(4,\): make them agree"):
        train(jax.random.key(0), network(), Fresh(RHM), TrainConfig(steps=1), teacher=longer)
