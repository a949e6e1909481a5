"""Trees of clusters: each argument outside its domain is refused by name."""

import inspect
import math

import jax
import jax.numpy as jnp
import pytest

from hierarchical import TreeMixture, tree_mixture
from hierarchical.mixture import tree as module


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offsets": ()}, r"offsets = \(\), branching = \(\): give one offset and 2 children or more"),
        ({"offsets": (2.0, math.nan)}, r"offsets = \(2\.0, nan\): give finite lengths above 0"),
        ({"offsets": (math.inf, 1.0)}, r"offsets = \(inf, 1\.0\): give finite lengths above 0"),
        ({"offsets": (2.0, 0.0)}, r"offsets = \(2\.0, 0\.0\): give finite lengths above 0"),
        ({"offsets": (2.0, -1.0)}, r"offsets = \(2\.0, -1\.0\): give finite lengths above 0"),
        ({"branching": 1}, r"branching = \(1, 1\): give one offset and 2 children or more"),
        ({"branching": (2, 0)}, r"branching = \(2, 0\): give one offset and 2 children or more"),
        ({"branching": 2.5}, r"branching = 2\.5: give a whole number"),
        ({"branching": (2, 3.0)}, r"branching = 3\.0: give a whole number"),
        ({"branching": math.nan}, "branching = nan: give a whole number"),
        ({"dimension": 8.5}, "dimension = 8.5: give a whole number"),
        ({"variance": math.nan}, "variance = nan: give a finite number that is not negative"),
        ({"variance": math.inf}, "variance = inf: give a finite number that is not negative"),
        ({"variance": -1.0}, r"variance = -1\.0: give a finite number that is not negative"),
        ({"offsets": (1e300, 1.5e300)}, "siblings would be as far apart as cousins"),
        ({"offsets": (1.0,) * 60, "shared": True}, r"a tree with branching = .* needs .* of memory"),
    ],
)
def test_arguments_outside_their_domain_are_named(options, message):
    draw = inspect.unwrap(tree_mixture)  # without the tests' type checker, which refuses some of them first
    arguments = {"dimension": 80, "offsets": (2.0, 1.0)} | options
    with pytest.raises(ValueError, match=message):
        draw(jax.random.key(0), arguments.pop("dimension"), arguments.pop("offsets"), **arguments)


def test_offsets_that_shrink_just_enough_are_accepted():
    """Equation (2) is where equation (1) for two neighbouring levels is equal."""
    for branching in ((2, 2), (3, 2), (2, 3)):
        above, below = branching
        limit = math.sqrt((below - 1) * above / (above - 1))
        apart = [2 * above / (above - 1) + 2 * limit**2, 2 * below / (below - 1) * limit**2]
        assert apart[0] == pytest.approx(apart[1])
        tree_mixture(jax.random.key(0), 8, (1.0, 0.999 * limit), branching=branching)
        with pytest.raises(ValueError, match="siblings would be as far apart as cousins"):
            tree_mixture(jax.random.key(0), 8, (1.0, 1.001 * limit), branching=branching)


def test_levels_and_posteriors_that_do_not_fit_are_named():
    tree = tree_mixture(jax.random.key(3), 8, (2.0, 1.0))
    for level in (-1, 3):
        with pytest.raises(ValueError, match=rf"level = {level}: the tree has the levels 0 \(root\) \.\. 2"):
            tree.ancestors(level)
        with pytest.raises(ValueError, match=rf"level = {level}: the tree has"):
            tree.node_posterior(jnp.ones(4) / 4, level)
    with pytest.raises(ValueError, match=r"posterior of shape \(2, 5\): its last axis needs 4 entries"):
        tree.node_posterior(jnp.ones((2, 5)) / 5, 1)
    with pytest.raises(ValueError, match="give as many offsets as levels, and a component for each leaf"):
        TreeMixture(tree.mixture, (2, 3), (2.0, 1.0))


def test_the_memory_of_a_tree_is_counted():
    assert 4 * jnp.float64(0).nbytes <= module._BYTES
