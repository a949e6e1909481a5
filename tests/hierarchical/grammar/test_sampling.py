"""Batches drawn from packed random bits: the enumerated law, uniform choices, the same shapes and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierarchical import RandomHierarchyModel, sample_strings, sample_trees
from hierarchical.grammar.sampling import uniform_choices
from tests.grammars import CASES, enumerated
from tests.laws import assert_drawn_from, count


@pytest.mark.parametrize("name", CASES)
def test_batches_follow_the_enumerated_law(name):
    rhm, data = enumerated(name)
    law = {}
    for weight, levels in data:
        row = (*levels[0], *levels[-1])
        law[row] = law.get(row, 0.0) + weight
    batch = sample_trees(jax.random.key(1), rhm, 20_000)
    rows = np.concatenate([np.asarray(batch.levels[0]), np.asarray(batch.leaves)], 1)
    assert_drawn_from(count(rows, list(law)), list(law.values()))


def test_whole_trees_are_drawn_and_strings_are_their_leaves():
    rhm = RandomHierarchyModel((5, 300, 30), (3, 4, 2), (2, 3, 2), num_classes=4, key=jax.random.key(2))
    key, again = jax.random.key(3), jax.random.key(3)
    batch = sample_trees(key, rhm, 50)
    parsed = jax.jit(jax.vmap(rhm.parse))(batch.leaves)
    for drawn, read in zip(batch.levels, parsed.levels, strict=True):
        assert drawn.dtype == jnp.int32
        np.testing.assert_array_equal(drawn, read)
    np.testing.assert_array_equal(sample_strings(again, rhm, 50, dtype=jnp.int16), batch.leaves)


def test_blocks_are_independent_and_a_last_one_is_cut(monkeypatch):
    monkeypatch.setattr("hierarchical.grammar.sampling.SYMBOLS_AT_ONCE", 4 * 1000)
    rhm, _ = enumerated("uniform")
    strings = np.asarray(sample_strings(jax.random.key(4), rhm, 20_500))  # a size of its own, so compiled anew
    assert strings.shape == (20_500, 4)
    pairs = np.concatenate([strings[:1000, :1], strings[1000:2000, :1]], 1)  # the same places of two blocks
    first = np.bincount(strings[:, 0], minlength=3) / len(strings)
    assert_drawn_from(np.bincount(pairs @ [3, 1], minlength=9), np.outer(first, first))


@pytest.mark.parametrize("num_choices", [1, 2, 3, 8, 10, 5000, 70_000])
def test_choices_are_uniform_and_neighbours_independent(num_choices):
    drawn = np.asarray(uniform_choices(jax.random.key(5), num_choices, 200_001)).astype(int)
    assert drawn.shape == (200_001,) and drawn.min() >= 0 and drawn.max() < num_choices
    if num_choices > 1:
        assert_drawn_from(np.bincount(drawn, minlength=num_choices), np.full(num_choices, 1 / num_choices))
        cells = min(num_choices, 20)  # two of one word, and of two words, coarsened
        pairs = (drawn[1:] * cells // num_choices) * cells + drawn[:-1] * cells // num_choices
        each = np.bincount(np.arange(num_choices) * cells // num_choices) / num_choices
        assert_drawn_from(np.bincount(pairs, minlength=cells**2), np.outer(each, each))


def test_packed_choices_are_floor_of_the_scaled_word():
    """Equation (1) with integers of any size: the digits of floor(w m^k / 2^32)."""
    key, m, per_word = jax.random.key(6), 6, 4
    words = np.asarray(jax.random.bits(jax.random.clone(key), (100,), jnp.uint32)).astype(object)
    values = [int(word) * m**per_word >> 32 for word in words]
    digits = [value // m**k % m for value in values for k in range(per_word)]
    np.testing.assert_array_equal(uniform_choices(key, m, 400), digits)


def test_what_cannot_be_drawn_is_refused():
    rhm = RandomHierarchyModel(200, 2, 2, 2, key=jax.random.key(7))
    with pytest.raises(ValueError, match="int8 cannot hold 200 symbols and a mask"):
        sample_strings(jax.random.key(8), rhm, 3, dtype=jnp.int8)
    with pytest.raises(ValueError, match="size = 0"):
        sample_strings(jax.random.key(8), rhm, 0)


def test_strings_longer_than_any_float_are_refused_by_their_depth():
    deep = RandomHierarchyModel.of_tables([np.zeros((2, 1, 2), np.int32)] * 1100, [None] * 1100, (2,) * 1101)
    with pytest.raises(ValueError, match=r"1 strings of 10\^331 leaves \(depth = 1100\) .* lower depth or branching"):
        deep.check_fits(1)
