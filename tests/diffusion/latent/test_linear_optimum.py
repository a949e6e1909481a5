"""A trained linear autoencoder is the known minimum of its free energy, in every measure of relevance."""

import jax
import numpy as np
import pytest
from flax import nnx

from diffusion import LinearVAE, Whole, from_vae, full_batch, train_autoencoder
from diffusion.measure import relevance
from tests.references.linear_autoencoder import learned_noise, optimum

EIGENVALUES = np.array([4, 2.5, 1.5, 1, 0.6, 0.3, 0.1, 0.02])
MULTIPLETS = np.array([3, 3, 3, 1.2, 1.2, 0.7, 0.1, 0.1])
NUM_LATENTS = 6


def exact_rows(eigenvalues, seed=0, size=64):
    """Rows around a centre whose covariance has exactly these eigenvalues, and its axes, (d, d), one in a column."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(size, len(eigenvalues)))
    white = np.linalg.qr(rows - rows.mean(0))[0] * np.sqrt(size)
    axes = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))[0]
    return (white * np.sqrt(eigenvalues)) @ axes.T + rng.normal(size=len(eigenvalues)), axes


def trained(rows, seed=0, **noise):
    network = LinearVAE.of_data(rows, NUM_LATENTS, rngs=nnx.Rngs(seed))
    source = Whole(rows)
    return train_autoencoder(jax.random.key(seed), from_vae(network, **noise), source, full_batch(source))


CASES = {
    "six latents, five of them active": (EIGENVALUES, {"tau": 0.5}),
    "multiplets": (MULTIPLETS, {"tau": 0.5}),
    "full collapse": (EIGENVALUES, {"tau": 4.5}),
    "learned noise": (EIGENVALUES, {"beta": 1}),
    "learned noise, collapsed": (EIGENVALUES, {"beta": 2.0}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Rows, their axes, the trained autoencoder, and the optimum at its tau."""
    eigenvalues, noise = CASES[request.param]
    rows, axes = exact_rows(eigenvalues)
    tau = noise.get("tau") or noise["beta"] * learned_noise(eigenvalues, noise["beta"], NUM_LATENTS)
    return rows, axes, trained(rows, **noise), tau, optimum(eigenvalues, tau, NUM_LATENTS)


def test_every_relevance_is_that_of_the_closed_form(case):
    rows, _, result, _, truth = case
    found = relevance.table(jax.random.key(1), result.autoencoder, rows)
    for name in ("snr", "kl", "mean_variance", "ablation"):
        value = np.asarray(getattr(found, name).value)[found.order]
        np.testing.assert_allclose(value, truth[name], rtol=1e-3, atol=1e-3, err_msg=name)
    assert int(found.active_units.value) == np.sum(truth["snr"] > 0)


def test_the_worked_example_has_signal_to_noise_seven_four_two_one_a_fifth_and_nothing():
    rows, _ = exact_rows(EIGENVALUES, seed=2)
    found = relevance.snr(trained(rows, seed=2, tau=0.5).autoencoder, rows)
    np.testing.assert_allclose(np.sort(found.value)[::-1], [7, 4, 2, 1, 0.2, 0], atol=1e-3)


def test_signal_and_noise_of_a_latent_add_to_the_variance_of_its_prior(case):
    rows, _, result, _, _ = case
    latent = result.autoencoder.encode(rows)
    np.testing.assert_allclose(np.var(latent.mean, 0) + np.mean(latent.variance, 0), 1, atol=1e-3)


def test_the_decoder_spans_the_leading_axes(case):
    """W W' = sum_j (lambda_j - tau) u_j u_j' of the active axes, also where a multiplet leaves the columns free."""
    _, axes, result, _, truth = case
    origin = np.asarray(result.autoencoder.decode(np.zeros(NUM_LATENTS)))
    columns = np.asarray(result.autoencoder.decode(np.eye(NUM_LATENTS))) - origin
    leading = axes[:, :NUM_LATENTS] * truth["columns"]
    np.testing.assert_allclose(columns.T @ columns, leading @ leading.T, atol=1e-3)


def test_tau_is_the_given_one_or_that_of_the_learned_noise(case):
    _, _, result, tau, _ = case
    np.testing.assert_allclose(result.autoencoder.tau, tau, rtol=1e-3)


def test_the_free_energy_is_the_least(case):
    rows, _, result, tau, truth = case
    found = result.autoencoder.free_energy(jax.random.key(3), rows)
    total = found.reconstruction.mean() + tau * found.kl.sum(-1).mean()
    np.testing.assert_allclose(total, truth["free energy"], rtol=1e-4)


def test_with_beta_one_the_least_free_energy_is_the_entropy_of_probabilistic_principal_components():
    """Then the bound is tight: -E ln N(x; c, W W' + eta^2), whose least value is known (Tipping & Bishop 1999)."""
    rows, _ = exact_rows(EIGENVALUES)
    result = trained(rows, beta=1)
    rest = EIGENVALUES[NUM_LATENTS:].mean()
    log_det = np.log(EIGENVALUES[:NUM_LATENTS]).sum() + (8 - NUM_LATENTS) * np.log(rest)
    entropy = (8 * np.log(2 * np.pi) + log_det + 8) / 2
    found = result.autoencoder.free_energy(jax.random.key(4), rows).total.mean()
    np.testing.assert_allclose(found, entropy, atol=1e-3)
    np.testing.assert_allclose(result.losses[-1], entropy / 8, atol=1e-3)


def test_latents_of_a_multiplet_are_equally_relevant():
    rows, _ = exact_rows(MULTIPLETS)
    found = relevance.table(jax.random.key(5), trained(rows, tau=0.5).autoencoder, rows)
    for name in ("snr", "kl", "mean_variance", "ablation"):
        value = np.asarray(getattr(found, name).value)[found.order]
        for multiplet in (value[:3], value[3:5]):
            np.testing.assert_allclose(multiplet, multiplet.mean(), rtol=1e-3, err_msg=name)


def test_the_unit_of_the_data_counts_for_nothing():
    """In a unit that is a power of 2, which rounds nothing, training is the same bit for bit."""
    rows, _ = exact_rows(EIGENVALUES)
    one, many = (trained(unit * rows, tau=0.5 * unit**2) for unit in (1, 1024))
    np.testing.assert_array_equal(many.losses, one.losses)
    rises = [relevance.ablation(found.autoencoder, unit * rows).value for found, unit in ((one, 1), (many, 1024))]
    np.testing.assert_allclose(rises[1], rises[0] * 1024**2, rtol=1e-6)
