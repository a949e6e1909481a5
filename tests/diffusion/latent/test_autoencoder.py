"""The interface of autoencoders: batches, dtypes, transformations, terms of the free energy, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusion import AbstractVAE, DenseVAE, LinearVAE, from_vae

D, K = 4, 3
ROWS = np.random.default_rng(0).normal(size=(6, D)) * [2, 1, 1, 0.5] + 3


def perturbed(network, **noise):
    """An autoencoder with parameters that are not those of initialisation."""
    made = from_vae(network, **noise)
    return eqx.tree_at(lambda a: a.params, made, jax.tree.map(lambda p: p + 0.1, made.params))


LINEAR = perturbed(LinearVAE.of_data(ROWS, K, rngs=nnx.Rngs(0)), tau=0.3)
DENSE = perturbed(DenseVAE.of_data(ROWS, K, 8, 1, rngs=nnx.Rngs(1)), tau=0.3)
LEARNED = perturbed(LinearVAE.of_data(ROWS, K, rngs=nnx.Rngs(2)), beta=0.7)
ALL = {"linear": LINEAR, "dense": DENSE, "learned": LEARNED}


@pytest.fixture(params=ALL)
def autoencoder(request):
    return ALL[request.param]


def test_batch_axes_lists_and_single_data_give_the_same(autoencoder):
    latent, again = autoencoder.encode(ROWS), autoencoder.reconstruct(ROWS)
    batched = ROWS.reshape(2, 3, D)
    for name in ("mean", "variance", "kl"):
        known = np.asarray(getattr(latent, name))
        assert known.shape == (6, K)
        np.testing.assert_allclose(getattr(autoencoder.encode(batched), name), known.reshape(2, 3, K), rtol=1e-5)
        np.testing.assert_allclose(getattr(autoencoder.encode(ROWS[4].tolist()), name), known[4], rtol=1e-5)
    np.testing.assert_allclose(autoencoder.reconstruct(batched), again.reshape(2, 3, D), rtol=1e-5)
    np.testing.assert_allclose(autoencoder.decode(latent.mean[4]), again[4], rtol=1e-5)
    found = autoencoder.free_energy(jax.random.key(0), batched)
    assert (found.reconstruction.shape, found.kl.shape, found.total.shape) == ((2, 3), (2, 3, K), (2, 3))
    flat = autoencoder.free_energy(jax.random.key(0), ROWS)
    np.testing.assert_allclose(found.total.ravel(), flat.total, rtol=1e-5)


@pytest.mark.parametrize("dtype", [int, np.float16, jnp.bfloat16, np.float32])
def test_narrow_numbers_and_integers_are_taken(autoencoder, dtype):
    x = np.asarray(ROWS).astype(dtype)
    found = autoencoder.reconstruct(x)
    assert found.dtype == (jnp.float64 if dtype is int else jnp.float32)
    np.testing.assert_allclose(found, autoencoder.reconstruct(x.astype(np.float64)), rtol=1e-5)


def test_everything_runs_under_jit_vmap_and_grad(autoencoder):
    key = jax.random.key(1)
    known = autoencoder.free_energy(key, ROWS).total
    np.testing.assert_allclose(
        eqx.filter_jit(lambda a, x: a.free_energy(jax.random.clone(key), x))(autoencoder, ROWS).total, known, rtol=1e-5
    )
    one = jax.jit(jax.vmap(autoencoder.encode))(jnp.asarray(ROWS))
    np.testing.assert_allclose(one.mean, autoencoder.encode(ROWS).mean, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(autoencoder.reconstruct(x))))(jnp.asarray(ROWS))
    step = 1e-3 * np.eye(D)[1]
    rise = autoencoder.reconstruct(ROWS + step).sum(-1) - autoencoder.reconstruct(ROWS - step).sum(-1)
    np.testing.assert_allclose(slope[:, 1], rise / 2e-3, rtol=1e-2, atol=2e-3)


def test_a_known_linear_network_does_what_its_matrices_say():
    """mu = (x - c) / s V + a, D(z) = c + s (z W + b), variance that of the parameters."""
    network = LINEAR.network
    centre, scale = ROWS.mean(0), np.sqrt(ROWS.var(0).mean())
    mean = (ROWS - centre) / scale @ np.asarray(network.encoder.kernel) + np.asarray(network.encoder.bias)
    decoded = centre + scale * (mean @ np.asarray(network.decoder.kernel) + np.asarray(network.decoder.bias))
    np.testing.assert_allclose(LINEAR.encode(ROWS).mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(LINEAR.encode(ROWS).variance[2], np.exp(network.log_variance[...]), rtol=1e-5)
    np.testing.assert_allclose(LINEAR.reconstruct(ROWS), decoded, rtol=1e-5)


def test_the_exact_expected_error_is_the_mean_over_draws():
    """20,000 draws of z, decoded by the public `decode`, against the closed form."""
    latent = LINEAR.encode(ROWS)
    xi = np.random.default_rng(3).normal(size=(20_000, 6, K))
    decoded = np.asarray(LINEAR.decode(np.asarray(latent.mean) + np.sqrt(latent.variance) * xi))
    errors = np.sum((ROWS - decoded) ** 2, -1) / 2
    found = LINEAR.free_energy(jax.random.key(4), ROWS).reconstruction
    assert (np.abs(found - errors.mean(0)) < 5 * errors.std(0) / np.sqrt(20_000)).all()


def test_the_draw_of_a_dense_network_has_the_mean_over_draws():
    latent = DENSE.encode(ROWS)
    xi = np.random.default_rng(5).normal(size=(20_000, 6, K))
    decoded = np.asarray(DENSE.decode(np.asarray(latent.mean) + np.sqrt(latent.variance) * xi))
    known = np.sum((ROWS - decoded) ** 2, -1) / 2
    keys = jax.random.split(jax.random.key(6), 2000)
    errors = np.asarray(jax.jit(jax.vmap(lambda key: DENSE.free_energy(key, ROWS).reconstruction))(keys))
    stderr = np.sqrt(known.var(0) / 20_000 + errors.var(0) / 2000)
    assert (np.abs(errors.mean(0) - known.mean(0)) < 5 * stderr).all()


def test_the_information_is_the_mean_log_ratio_of_posterior_and_prior(autoencoder):
    """By quadrature: E_q ln q(z | x) - ln N(z; 0, 1), whose integrand is a quadratic function of z."""
    latent = autoencoder.encode(ROWS)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    z = np.asarray(latent.mean)[..., None] + np.sqrt(latent.variance)[..., None] * nodes
    log_ratio = (z**2 - nodes**2 - np.log(latent.variance)[..., None]) / 2
    np.testing.assert_allclose(latent.kl, log_ratio @ weights / weights.sum(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(autoencoder.free_energy(jax.random.key(7), ROWS).kl, latent.kl, rtol=1e-6)


def test_the_free_energy_is_the_sum_of_its_terms():
    found, information = LINEAR.free_energy(jax.random.key(8), ROWS), LINEAR.encode(ROWS).kl.sum(-1)
    assert LINEAR.noise_variance is None
    np.testing.assert_allclose(found.total, found.reconstruction + 0.3 * information, rtol=1e-6)
    found, information = LEARNED.free_energy(jax.random.key(8), ROWS), LEARNED.encode(ROWS).kl.sum(-1)
    variance = float(LEARNED.noise_variance)
    np.testing.assert_allclose(variance, ROWS.var(0).mean(), rtol=1e-6)  # where it begins
    nats = found.reconstruction / variance + D / 2 * np.log(2 * np.pi * variance) + 0.7 * information
    np.testing.assert_allclose(found.total, nats, rtol=1e-6)
    np.testing.assert_allclose(LEARNED.tau, 0.7 * variance, rtol=1e-6)


def test_data_far_from_the_origin_lose_nothing():
    far = ROWS.astype(np.float32) + np.float32(4096)
    network = LinearVAE.of_data(far, K, rngs=nnx.Rngs(0))
    near = LinearVAE(
        D, K, centre=np.asarray(network.centre[...]) - 4096, scale=float(network.scale[...]), rngs=nnx.Rngs(0)
    )
    found, known = (from_vae(made, tau=1).encode(x).mean for made, x in ((network, far), (near, far - 4096)))
    np.testing.assert_allclose(found, known, atol=1e-6)


def test_later_changes_of_the_network_do_not_reach_the_autoencoder():
    network = LinearVAE(D, K, rngs=nnx.Rngs(0))
    made = from_vae(network, tau=1)
    before = made.encode(ROWS).mean
    network.encoder.kernel[...] = jnp.zeros((D, K), jnp.float32)
    np.testing.assert_array_equal(made.encode(ROWS).mean, before)


class Doubled(AbstractVAE):
    """A network of one's own: z is the first number of x, D(z) = 2 z in all of them; `wide` breaks its decoder."""

    def __init__(self, wide=0):
        self.dimension, self.num_latents, self.wide = D, 1, wide
        self.centre, self.scale = nnx.Variable(jnp.zeros(D, jnp.float32)), nnx.Variable(jnp.ones((), jnp.float32))
        self.gain = nnx.Param(jnp.full((), 2.0, jnp.float32))

    def encode_standard(self, y):
        return y[:, :1], jnp.full_like(y[:, :1], -2.0)

    def decode_standard(self, z):
        return jnp.broadcast_to(self.gain[...].astype(z.dtype) * z, (len(z), D + self.wide))


def test_a_network_of_ones_own_is_taken():
    made = from_vae(Doubled(), tau=1)
    np.testing.assert_allclose(made.reconstruct(ROWS), np.tile(2 * ROWS[:, :1], D))
    assert made.free_energy(jax.random.key(9), ROWS).total.shape == (6,)


REFUSED = {
    "tau = None, beta = None: give tau for a fixed noise": lambda: from_vae(LinearVAE(D, K, rngs=nnx.Rngs(0))),
    "tau = 1, beta = 2: give tau": lambda: from_vae(LinearVAE(D, K, rngs=nnx.Rngs(0)), tau=1, beta=2),
    "tau = 0: must be positive and finite": lambda: from_vae(LinearVAE(D, K, rngs=nnx.Rngs(0)), tau=0),
    "beta = nan: must be positive": lambda: from_vae(LinearVAE(D, K, rngs=nnx.Rngs(0)), beta=float("nan")),
    r"tau has shape \(2,\): give one number": lambda: from_vae(LinearVAE(D, K, rngs=nnx.Rngs(0)), tau=[1, 2]),
    r"decode_standard maps shape \(2, 1\) to \(2, 5\); expected \(2, 4\)": lambda: from_vae(Doubled(1), tau=1),
    r"x has shape \(6, 3\): the last axes must be \(4,\)": lambda: LINEAR.encode(ROWS[:, :3]),
    r"x has shape \(0, 4\): it is empty": lambda: LINEAR.free_energy(jax.random.key(0), ROWS[:0]),
    r"z has shape \(\): the last axes must be \(3,\)": lambda: LINEAR.decode(1.0),
    "give real numbers": lambda: LINEAR.encode(["a"] * D),
    "dimension = 4, num_latents = 0: at least 1": lambda: LinearVAE(D, 0, rngs=nnx.Rngs(0)),
    "width = 0, num_layers = 2: at least 1": lambda: DenseVAE(D, K, 0, rngs=nnx.Rngs(0)),
    r"centre has shape \(3,\): give 4 finite numbers": lambda: LinearVAE(D, K, centre=ROWS[0, :3], rngs=nnx.Rngs(0)),
    "scale = 0: give one number, positive": lambda: DenseVAE(D, K, scale=0, rngs=nnx.Rngs(0)),
    "n at least 2, not all equal": lambda: DenseVAE.of_data(np.ones((5, D)), K, rngs=nnx.Rngs(0)),
    "give .* finite numbers": lambda: LinearVAE.of_data(np.full((5, D), np.nan), K, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
