"""Agreement of representations: definitions written out, rotations, known covariances, and unrelated data."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.measure import probing


def draws(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def independence(x, y):
    """The unbiased HSIC of linear kernels, term by term."""
    n, one = len(x), np.ones(len(x))
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    both = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + both - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_cka_is_its_definition_and_one_for_a_rotation():
    x, y, square = draws(0, (9, 3), (9, 4), (4, 4))
    want = independence(x, y) / np.sqrt(independence(x, x) * independence(y, y))
    np.testing.assert_allclose(probing.linear_cka(x, y).value, want, rtol=1e-9)
    turned = 3 * y @ np.linalg.qr(square)[0] + 5
    np.testing.assert_allclose(probing.linear_cka(y, turned).value, 1, rtol=1e-9)


def test_cka_of_half_shared_dimensions_is_one_half_and_errors_hold_it():
    """(a, b) and (a, c), two dimensions each: |C_xy|^2 = 2, |C_xx|^2 = |C_yy|^2 = 4; 100 sets of data at once."""
    a, b, c = draws(1, *[(100, 200, 2)] * 3)
    found = probing.linear_cka(np.concatenate([a, b], -1), np.concatenate([a, c], -1).astype(np.float32))
    away = np.asarray(found.value) - 0.5
    assert abs(away.mean()) < 5 * away.std() / 10
    assert 0.8 < np.mean(found.stderr) / away.std() < 1.25
    unrelated = np.asarray(probing.linear_cka(b, c).value)
    assert abs(unrelated.mean()) < 5 * unrelated.std() / 10


def test_shared_neighbours_are_counted():
    x, y = draws(2, (20, 2), (20, 3))
    shares = []
    for i in range(20):
        nearest = [set(np.argsort(((z - z[i]) ** 2).sum(1))[1:5].tolist()) for z in (x, y)]
        shares.append(len(nearest[0] & nearest[1]) / 4)
    found = probing.neighbourhood_agreement(x, y, np.int64(4))
    np.testing.assert_allclose(found.value, np.mean(shares))
    assert probing.neighbourhood_agreement(jnp.asarray(x), 2 * x + 1, 4).value == 1


def test_unrelated_data_share_neighbours_by_chance():
    x, y = draws(3, (10, 20, 2), (10, 20, 3))
    found = probing.neighbourhood_agreement(x, y, 4)
    assert found.value.shape == (10,)
    assert abs(found.value.mean() - 4 / 19) < 5 * found.stderr.mean() / 10**0.5


def test_wrong_representations_are_refused_by_name():
    for first, second, message in (
        (np.ones((4, 2)), np.ones((5, 2)), "give .* of the same n data"),
        (np.ones((3, 2)), np.ones((3, 2)), "3 data: give at least 4"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), "holds NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            probing.linear_cka(first, second)
    with pytest.raises(ValueError, match="num_neighbours = 4 of 4 data: give fewer"):
        probing.neighbourhood_agreement(np.ones((4, 2)), np.ones((4, 2)), 4)
