"""Every function of Gaussian laws and of pairs refuses each number out of range by name; inside jit it gives NaN."""

import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import GaussianMixture, tree_mixture
from theory import (
    collapse,
    domain,
    gaussian_field,
    pair_correlation,
    random_features,
    seed_weight,
    speciation,
    windows,
)

KEY = jax.random.key(0)
PAIR = GaussianMixture(jnp.ones(2), jnp.array([[1.0], [-1.0]]), 1.0)
TREE = tree_mixture(jax.random.key(1), 4, (4.0, 1.0))
RING = np.ones(4)
LATE = 20.0  # beyond what the quadrature of seed weights was measured at

# function, arguments that it accepts, and for each argument to spoil: numbers out of its range
CALLS = [
    (speciation.signal, (4.0, 1.0, 0.5), {0: [-1.0], 1: [-1.0], 2: [-0.1]}),
    (speciation.time_of_signal, (4.0, 1.0, 0.5), {0: [-1.0], 1: [-1.0], 2: [0.0, -1.0]}),
    (speciation.speciation_time, (4.0, 1.0), {0: [-4.0], 1: [-1.0]}),
    (speciation.covariance_speciation_time, (4.0, 1.0), {0: [-4.0], 1: [-1.0]}),
    (speciation.potential_speciation_time, (4.0, 1.0), {0: [-4.0], 1: [-1.0]}),
    (speciation.variance_speciation_time, (100, 1.5, 0.5), {0: [0, -3], 1: [-1.0], 2: [-1.0]}),
    (speciation.clone_probability, (1.0,), {0: [-1.0]}),
    (speciation.ode_clone_probability, (1.0,), {0: [-1.0]}),
    (speciation.signal_of_clone_probability, (0.7,), {0: [0.4, 0.5, 1.0]}),
    (speciation.mixture_retention, (KEY, PAIR, 0.5, 4), {2: [-0.1], 3: [0, 1]}),
    (speciation.mixture_retention, (KEY, TREE, 0.5, 4, 1), {4: [-1, 3]}),
    (windows.level_retention_prediction, (TREE, 0.5), {1: [-0.1]}),
    (windows.total_variation, (3.0, 1.0, 0.5), {0: [-3.0], 1: [-1.0], 2: [-0.1]}),
    (windows.window_time, (3.0, 1.0, 0.4), {0: [-3.0], 1: [-1.0], 2: [0.0, 1.0]}),
    (collapse.isotropic_collapse_time, (100.0, 5, 1.0), {0: [1, 0, -2.0], 1: [0, -3], 2: [0.0, -1.0]}),
    (collapse.spectrum_collapse_time, (100.0, np.ones(5)), {0: [1.0]}),
    (collapse.hypercube_information, (1.0,), {0: [-1.0]}),
    (collapse.hypercube_collapse_time, (0.3,), {0: [0.0, 0.7]}),
    (collapse.mixture_information, (KEY, PAIR, 0.5, 4), {2: [0.0, -1.0], 3: [1]}),
    (collapse.mixture_collapse_time, (KEY, 1.5, PAIR, 4), {1: [1.0], 3: [1]}),
    (seed_weight.isotropic_seed_weight, (20, 3, 0.5), {0: [1, 1e101], 1: [0, 2001], 2: [-1.0, 0.0, LATE]}),
    (seed_weight.isotropic_seed_weight, (20, 3, 0.5, 1.0), {3: [0.0, -1.0]}),
    (random_features.feature_moments, (np.tanh, 0.5, 1.0), {1: [0, -1.0], 2: [0.0, -1.0]}),
    (random_features.spectrum_edges, (np.tanh, 400, 200, 20, 0.5, 1.0), {3: [19], 4: [0.0], 5: [-1.0]}),
    (random_features.training_times, (np.tanh, 400, 200, 20, 0.5, 1.0), {1: [200], 2: [20], 4: [-1.0], 5: [0.0]}),
    (gaussian_field.power_law_spectrum, (8, 1.0), {0: [1, -1]}),
    (gaussian_field.change_spectrum, (RING, 0.5, 0.5), {1: [-0.1], 2: [0.0, -1.0]}),
    (gaussian_field.change_sums, (RING, 0.5, 0.5), {1: [-0.1], 2: [0.0, -1.0]}),
    (pair_correlation.mean_field_sums, (0.5, 2, 8, 3, 2), {0: [-1.0, 1.1], 1: [0], 2: [1], 3: [0, 9], 4: [1]}),
    (pair_correlation.collapsed, (0.5, 2.0, 3, 16, 4, 2, 0.5), {0: [-1.0, 1.1], 1: [], 2: [0], 3: [1], 4: [17], 6: []}),
]  # fmt: skip
CASES = [
    pytest.param(function, arguments, place, value, id=f"{function.__name__}-{place}-{value:.3g}")
    for function, arguments, spoiled in CALLS
    for place, values in spoiled.items()
    for value in (*values, *((math.nan, math.inf) if isinstance(arguments[place], float) else ()))
]


@pytest.mark.parametrize(("function", "arguments", "place", "value"), CASES)
def test_a_number_out_of_range_is_refused_by_its_name(function, arguments, place, value):
    """Of each argument: values beyond its ends, NaN and infinity; the message names it, its value, and what to give."""
    name = list(inspect.signature(function).parameters)[place]
    with pytest.raises(ValueError, match=rf"^{name} = {re.escape(str(value))}.*(give|take|lower|raise|needs)"):
        function(*arguments[:place], value, *arguments[place + 1 :])


QUICK = [call[:2] for call in CALLS if call[0] not in (random_features.spectrum_edges, random_features.training_times)]


@pytest.mark.parametrize(("function", "arguments"), QUICK, ids=[call[0].__name__ for call in QUICK])
def test_scalars_of_numpy_are_numbers(function, arguments):
    results = []
    for kind in (float, np.float32):
        changed = [kind(argument) if isinstance(argument, float) else argument for argument in arguments]
        results.append(first_number(function(*(jax.random.clone(KEY) if x is KEY else x for x in changed))))
    np.testing.assert_allclose(*results, rtol=1e-5)


def first_number(result):
    return np.asarray(jax.tree.leaves(result)[0], float)


@pytest.mark.parametrize("value", [np.ones(2), "3", True, 1j, np.array([[1.0]])])
def test_numbers_that_are_not_real_are_refused(value):
    for check in (domain.number, domain.positive, domain.not_negative, domain.points):
        with pytest.raises(ValueError, match=r"mass (has shape|= ).*: give (one|a real) number"):
            check("mass", value)
    with pytest.raises(ValueError, match=r"size (has shape|= ).*: give (one|a real) number"):
        domain.count("size", value, 1)


def test_fractional_counts_are_refused():
    assert domain.count("size", 3.0, 1) == 3
    with pytest.raises(ValueError, match=r"size = 3\.5: give a whole number, from 1 to 9"):
        domain.count("size", 3.5, 1, 9)


@pytest.mark.parametrize("variances", [[-1.0, 1.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0]])
def test_variances_out_of_range_are_refused(variances):
    with pytest.raises(ValueError, match=r"variances = .*: give finite numbers, none negative"):
        collapse.spectrum_collapse_time(10, np.array(variances))


@pytest.mark.parametrize("spectrum", [[1.0, -1.0, 1.0, 1.0], [1.0, math.nan, 1.0, 1.0], [1.0, 2.0, 1.0, 3.0]])
def test_spectra_of_no_real_field_are_refused(spectrum):
    with pytest.raises(ValueError, match=r"spectrum (=|has S_1 =).*: .*give"):
        gaussian_field.change_sums(np.array(spectrum), 0.5, 0.5)


def test_what_jit_cannot_refuse_is_nan():
    """A negative time, a time of 0 for the information, a noise of 0, a spectrum that is not even."""
    t, zero = jnp.asarray(-0.1), jnp.asarray(0.0)
    found = jax.jit(lambda t: speciation.mixture_retention(jax.random.key(1), PAIR, t, 4))(t)
    assert jnp.isnan(found.value) and jnp.isnan(found.stderr)
    assert jnp.isnan(jax.jit(lambda t: collapse.mixture_information(jax.random.key(2), PAIR, t, 4))(zero).value)
    assert jnp.isnan(jax.jit(gaussian_field.change_spectrum)(RING, jnp.asarray(0.5), zero)).all()
    assert jnp.isnan(jax.jit(gaussian_field.change_sums)(RING * np.arange(4), zero, zero + 0.5)).all()


def test_probabilities_are_at_most_1():
    """Over all signals, and rising; 1 - phi keeps its digits where it is small: pi / 2 e^(-S/2) / (2 pi S)^(1/2)."""
    values = np.array([speciation.clone_probability(value) for value in np.geomspace(1e-6, 1e6, 200)])
    assert values.min() >= 0.5 and values.max() <= 1 and (np.diff(values) >= 0).all()
    assert speciation.clone_probability(0) == 0.5
