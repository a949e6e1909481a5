"""Grammars cut at a level: the law above and below, against the list of all derivations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import expand, sample_strings, upper_levels
from tests.grammars import enumerated
from tests.laws import assert_drawn_from, count

ROWS = 4000


def law_of_level(derivations, level):
    """The strings of a level with their probabilities."""
    law: dict[tuple, float] = {}
    for weight, levels in derivations:
        law[levels[level]] = law.get(levels[level], 0.0) + weight
    return list(law), np.array(list(law.values()))


@pytest.mark.parametrize("name", ["zipf", "filtered-1", pytest.param("per-level", marks=pytest.mark.slow)])
def test_upper_levels_have_the_law_of_the_symbols_there(name):
    rhm, derivations = enumerated(name)
    upper = upper_levels(rhm, 1)
    assert upper.depth == 1 and upper.num_symbols == rhm.vocabulary[1] and upper.filter_level == rhm.filter_level
    values, probabilities = law_of_level(derivations, 1)
    assert_drawn_from(count(sample_strings(jax.random.key(0), upper, ROWS), values), probabilities)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *itertools.product(["zipf", "filtered-1"], [0, 1, 2]),
        *(pytest.param("filtered-2", level, marks=pytest.mark.slow) for level in (0, 2)),  # level 1 has no nodes
    ],
)
def test_expanding_gives_the_leaves_below_given_symbols(name, level):
    rhm, derivations = enumerated(name)
    chosen = derivations[len(derivations) // 2][1][level]
    below = [(weight, levels) for weight, levels in derivations if levels[level] == chosen]
    values, probabilities = law_of_level(below, -1)
    leaves = expand(jax.random.key(1), rhm, np.broadcast_to(np.int8(chosen), (ROWS, len(chosen))), level)
    assert_drawn_from(count(leaves, values), probabilities / probabilities.sum())


def test_the_whole_grammar_is_its_own_upper_part_and_expands_to_itself():
    rhm, _ = enumerated("zipf")
    strings = rhm.sample(jax.random.key(2), (2, 3)).x
    np.testing.assert_array_equal(upper_levels(rhm, 2).sample(jax.random.key(2), (2, 3)).x, strings)
    np.testing.assert_array_equal(expand(jax.random.key(3), rhm, strings, 2), strings)


def test_inside_jit_leaves_below_no_symbol_are_marked():
    rhm, _ = enumerated("zipf")
    leaves = jax.jit(lambda symbols: expand(jax.random.key(4), rhm, symbols, 1))(jnp.array([2, 7]))
    assert (leaves[:2] >= 0).all() and (leaves[2:] == -1).all()


def test_levels_and_symbols_that_are_not_there_are_refused():
    rhm, filtered = enumerated("zipf")[0], enumerated("filtered-2")[0]
    with pytest.raises(ValueError, match=r"level = 3: give one of \[1, 2\]"):
        upper_levels(rhm, 3)
    with pytest.raises(ValueError, match=r"level = 1: give one of \[0, 2\]"):
        expand(jax.random.key(0), filtered, [0, 0], 1)
    with pytest.raises(ValueError, match="level 1 of this grammar has 2 nodes, got symbols of shape"):
        expand(jax.random.key(0), rhm, [0, 0, 0], 1)
    with pytest.raises(ValueError, match="symbols holds the symbol 9"):
        expand(jax.random.key(0), rhm, [0, 9], 1)
