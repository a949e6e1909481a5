"""Relevance of latents against what the parameters of a linear autoencoder say, and its errors against repetitions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import DenseVAE, LinearVAE, from_vae
from diffusion.measure import relevance, student_factor

D, K = 4, 3
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(40, D)) @ RNG.normal(size=(D, D)) + 3
LINEAR = from_vae(LinearVAE.of_data(ROWS, K, rngs=nnx.Rngs(0)), tau=0.3)
LINEAR = eqx.tree_at(
    lambda a: a.params["log_variance"],
    LINEAR,
    replace_fn=lambda p: p.replace(jnp.array([-3.0, -1.0, 0.2], jnp.float32)),
)
DENSE = from_vae(DenseVAE.of_data(ROWS, K, 8, 1, rngs=nnx.Rngs(1)), tau=0.3)
PER_LATENT = {
    "snr": relevance.snr,
    "kl": relevance.kl,
    "mean_variance": relevance.mean_variance,
    "ablation": relevance.ablation,
}


def affine(autoencoder):
    """A, a, W, b and s, in the unit of x: mu = A x + a, D(z) = W z + b, and s the variances of the latents."""
    network = autoencoder.network
    centre, scale = np.asarray(network.centre[...], float), float(network.scale[...])
    encoder, shift = (np.asarray(part[...], float) for part in (network.encoder.kernel, network.encoder.bias))
    decoder, origin = (np.asarray(part[...], float) for part in (network.decoder.kernel, network.decoder.bias))
    variances = np.exp(np.asarray(network.log_variance[...], float))
    return encoder.T / scale, shift - encoder.T @ centre / scale, scale * decoder.T, scale * origin + centre, variances


def known(autoencoder, mean, covariance):
    """Every measure, from mean and covariance of the data and the matrices alone."""
    encoder, shift, decoder, origin, s = affine(autoencoder)
    m, signal = encoder @ mean + shift, np.diag(encoder @ covariance @ encoder.T)
    # x - D(mu) = R x + r; the rise without latent j is E[mu_j W_j . (R x + r)] + |W_j|^2 E[mu_j^2] / 2
    rest, r = np.eye(D) - decoder @ encoder, -decoder @ shift - origin
    cross = np.diag(encoder @ covariance @ rest.T @ decoder) + m * (decoder.T @ (rest @ mean + r))
    return {
        "snr": signal / s,
        "kl": (signal + m**2 + s - np.log(s) - 1) / 2,
        "mean_variance": signal,
        "ablation": cross + np.sum(decoder**2, 0) * (signal + m**2) / 2,
    }


def test_measures_of_a_linear_autoencoder_follow_from_its_matrices():
    truth = known(LINEAR, ROWS.mean(0), np.cov(ROWS.T, bias=True))
    for name, measure in PER_LATENT.items():
        np.testing.assert_allclose(measure(LINEAR, ROWS).value, truth[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", PER_LATENT)
def test_errors_are_the_spread_over_repetitions(name):
    """400 sets of 200 Gaussian data: the mean square of (value - truth) / error is 1, with its own error .07."""
    encoder, mean = np.linalg.cholesky(np.cov(ROWS.T)), ROWS.mean(0)
    sets = mean + np.random.default_rng(1).normal(size=(400, 200, D)) @ encoder.T
    found = jax.jit(jax.vmap(lambda x: PER_LATENT[name](LINEAR, x)))(jnp.asarray(sets))
    z = (np.asarray(found.value) - known(LINEAR, mean, encoder @ encoder.T)[name]) / found.stderr
    assert (np.abs(np.mean(z**2, 0) - 1) < 5 * np.std(z**2, 0) / np.sqrt(400)).all()


def test_active_units_are_those_above_the_threshold():
    variance = relevance.mean_variance(LINEAR, ROWS).value
    for threshold in (0, 0.01, float(np.sort(variance)[1])):
        found = relevance.active_units(jax.random.key(0), LINEAR, ROWS, threshold)
        assert int(found.value) == np.sum(variance > threshold)
    assert (
        float(relevance.active_units(jax.random.key(0), LINEAR, ROWS, 1e-4).stderr) == 0
    )  # all are, in every resample


def test_the_error_of_the_active_units_is_that_of_a_plain_bootstrap():
    """4000 resamples of NumPy against our 400: the spread of either is known to 1 / (2 resamples)^(1/2)."""
    latent = np.asarray(LINEAR.encode(ROWS).mean)
    middle = float(np.sort(latent.var(0))[1])
    drawn = latent[np.random.default_rng(2).integers(0, 40, (4000, 40))]
    spread = np.sum(drawn.var(1) > middle, 1).std() * np.sqrt(40 / 39) * student_factor(40)
    found = relevance.active_units(jax.random.key(1), LINEAR, ROWS, middle)
    np.testing.assert_allclose(found.stderr, spread, rtol=5 * np.sqrt(1 / 800 + 1 / 8000))


def test_ablation_is_the_rise_of_the_error_of_the_reconstruction():
    latent = np.asarray(DENSE.encode(ROWS).mean)
    silenced = np.stack([np.where(np.arange(K) == j, 0, latent) for j in range(K)])
    errors = np.sum((ROWS - np.asarray(DENSE.decode(silenced))) ** 2, -1) / 2
    rises = errors - np.sum((ROWS - np.asarray(DENSE.reconstruct(ROWS))) ** 2, -1) / 2
    found = relevance.ablation(DENSE, ROWS)
    np.testing.assert_allclose(found.value, rises.mean(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.stderr, rises.std(1, ddof=1) / np.sqrt(40), rtol=0.02)  # Student's factor is 1.013


def test_the_table_holds_every_measure_in_the_order_of_signal_to_noise():
    found = relevance.table(jax.random.key(2), LINEAR, ROWS)
    for name, measure in PER_LATENT.items():
        jax.tree.map(np.testing.assert_array_equal, getattr(found, name), measure(LINEAR, ROWS))
    active = relevance.active_units(jax.random.key(2), LINEAR, ROWS)
    jax.tree.map(np.testing.assert_array_equal, found.active_units, active)
    assert (np.diff(np.asarray(found.snr.value)[found.order]) < 0).all()


def test_batch_axes_lists_and_narrow_numbers_are_data():
    for measure in PER_LATENT.values():
        whole = measure(DENSE, ROWS)
        for x in (ROWS.reshape(5, 8, D), ROWS.tolist()):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), measure(DENSE, x), whole)
        half = measure(DENSE, ROWS.astype(np.float16))
        assert half.value.dtype == jnp.float32
        np.testing.assert_allclose(half.value, whole.value, rtol=0.02, atol=0.02)


def test_a_single_datum_has_no_variance_and_no_error():
    found = relevance.table(jax.random.key(3), LINEAR, ROWS[0])
    for numbers in (found.snr, found.mean_variance, found.active_units):
        assert np.isnan(numbers.value).all() and np.isnan(numbers.stderr).all()
    for numbers in (found.kl, found.ablation):
        assert np.isfinite(numbers.value).all() and np.isnan(numbers.stderr).all()


def test_a_map_is_what_is_decoded_between_the_ends_of_two_latents():
    mean = np.asarray(DENSE.encode(ROWS).mean)
    found = relevance.latent_map(DENSE, ROWS, 2, 0, (3, 5))
    np.testing.assert_allclose(found.first, np.linspace(mean[:, 2].min(), mean[:, 2].max(), 3), rtol=1e-6)
    np.testing.assert_allclose(found.second, np.linspace(mean[:, 0].min(), mean[:, 0].max(), 5), rtol=1e-6)
    assert found.decoded.shape == (3, 5, D)
    corner = np.array([mean[:, 0].max(), mean[:, 1].mean(), mean[:, 2].min()])
    np.testing.assert_allclose(found.decoded[0, -1], DENSE.decode(corner), rtol=1e-5, atol=1e-6)


REFUSED = {
    r"x has shape \(40, 3\): the last axes must be \(4,\)": lambda: relevance.snr(LINEAR, ROWS[:, :3]),
    r"x has shape \(0, 4\): it is empty": lambda: relevance.ablation(LINEAR, ROWS[:0]),
    r"x has shape \(\)": lambda: relevance.latent_map(LINEAR, 1.0, 0, 1),
    "threshold = -1: give one number": lambda: relevance.active_units(jax.random.key(0), LINEAR, ROWS, -1),
    "threshold = nan: give one number": lambda: relevance.table(jax.random.key(0), LINEAR, ROWS, float("nan")),
    "first = 1, second = 1: give two different latents": lambda: relevance.latent_map(LINEAR, ROWS, 1, 1),
    r"second = 3: give two different latents, 0 \.\. 2": lambda: relevance.latent_map(LINEAR, ROWS, 0, 3),
    "first = -1: give a whole number": lambda: relevance.latent_map(LINEAR, ROWS, -1, 0),
    "sizes = 0: give a whole number": lambda: relevance.latent_map(LINEAR, ROWS, 0, 1, 0),
    r"sizes = \(1, 2, 3\): give one number, or two": lambda: relevance.latent_map(LINEAR, ROWS, 0, 1, (1, 2, 3)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
