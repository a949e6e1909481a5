"""A dense autoencoder of a noisy ring: it uses as many latents as the plane has that holds the ring, not one."""

import jax
import numpy as np
import pytest
from flax import nnx

from diffusion import DenseVAE, Finite, TrainConfig, from_vae, train_autoencoder
from diffusion.measure import relevance
from tests.references.linear_autoencoder import optimum

TAU, STD = 0.005, 0.05


def ring(seed, size):
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, size), 1 + STD * rng.normal(size=size)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


@pytest.fixture(scope="module")
def autoencoder():
    rows = ring(0, 4000)
    network = DenseVAE.of_data(rows, 4, 32, 2, rngs=nnx.Rngs(0))
    config = TrainConfig(steps=1000, batch_size=256, learning_rate=5e-3)
    return train_autoencoder(jax.random.key(0), from_vae(network, tau=TAU), Finite(rows), config).autoencoder


def test_two_of_four_latents_are_used(autoencoder):
    """The others are given up: they know less than .01 nats, and the decoder loses a hundredth of tau without them."""
    found = relevance.table(jax.random.key(1), autoencoder, ring(1, 2000))
    assert (float(found.active_units.value), float(found.active_units.stderr)) == (2, 0)
    used, unused = found.order[:2], found.order[2:]
    assert (found.snr.value[used] > 10).all() and (found.snr.value[unused] < 0.01).all()
    assert (found.kl.value[used] > 1).all() and (found.kl.value[unused] < 0.01).all()
    assert (found.ablation.value[used] > 0.2).all() and (np.abs(found.ablation.value[unused]) < TAU / 100).all()


def test_the_free_energy_is_below_that_of_every_linear_autoencoder_and_above_the_entropy(autoencoder):
    """With beta = 1, eta^2 = tau the bound F / tau + d/2 ln(2 pi tau) >= -ln p(x) is above the entropy of the ring,
    ln 2 pi + ln(2 pi e std^2) / 2 + E ln r nats; the linear autoencoder has the eigenvalues (1 + std^2) / 2."""
    found = np.asarray(autoencoder.free_energy(jax.random.key(2), ring(2, 20_000)).total)
    stderr = found.std() / np.sqrt(len(found))
    entropy = np.log(2 * np.pi) + np.log(2 * np.pi * np.e * STD**2) / 2 - STD**2 / 2
    linear = optimum([(1 + STD**2) / 2] * 2, TAU, 2)["free energy"]
    assert TAU * (entropy - np.log(2 * np.pi * TAU)) + 5 * stderr < found.mean() < linear - 5 * stderr


def test_the_ring_is_decoded_near_the_ring(autoencoder):
    radius = np.linalg.norm(autoencoder.reconstruct(ring(3, 2000)), axis=1)
    assert abs(radius.mean() - 1) < STD and radius.std() < 2 * STD
