"""The sizes of a grammar go in as one argument or as three."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion import Masking
from hierarchical import RandomHierarchyModel
from theory import density_evolution, mean_field, pair_correlation

RHM = RandomHierarchyModel(8, 3, 2, 2, key=jax.random.key(0))


@pytest.mark.parametrize(
    "function, before",
    [
        (mean_field.up_map, (0.4,)),
        (mean_field.up_slope, (0.4,)),
        (mean_field.down_map, (0.3, 0.4)),
        (mean_field.transition_exists, ()),
        (mean_field.fixed_point, ()),
        (mean_field.critical_noise, ()),
        (mean_field.correlation_exponent, ()),
        (pair_correlation.decay_exponent, ()),
        (pair_correlation.susceptibility_exponent, ()),
        (pair_correlation.mean_field_sums, (jnp.array([0.4]), 3)),
    ],
)
def test_sizes_stand_for_three_numbers(function, before):
    np.testing.assert_array_equal(function(*before, RHM.sizes), function(*before, 8, 3, 2))


def test_what_follows_the_sizes_keeps_its_place():
    times, process = jnp.array([0.2, 0.6]), Masking(8)
    arguments = (process, times, 2, 64, 8)
    together = density_evolution.overlap(jax.random.key(0), RHM.sizes, *arguments)
    np.testing.assert_array_equal(together, density_evolution.overlap(jax.random.key(0), 8, 3, 2, *arguments))
    named = mean_field.critical_noise(num_symbols=8, num_synonyms=3, branching=2)
    assert named == mean_field.critical_noise(RHM.sizes)


def test_numpy_sizes_are_python_integers():
    """8^40 overflows 64 bits."""
    sizes = np.array([8, 3, 40])
    assert mean_field.transition_exists(*sizes) == mean_field.transition_exists(8, 3, 40)
    assert mean_field.critical_noise(*np.array([8, 3, 2], np.int8)) == mean_field.critical_noise(8, 3, 2)
    assert mean_field.critical_noise(8.0, 3, branching=np.int32(2)) == mean_field.critical_noise(8, 3, 2)


def test_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"sizes = \(8, 3\): give \(num_symbols, num_synonyms, branching\)"):
        mean_field.critical_noise((8, 3))
