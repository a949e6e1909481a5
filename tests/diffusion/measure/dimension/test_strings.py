"""The dimension of strings: grammars and independent symbols, where it is an entropy in closed form."""

import jax
import numpy as np
import pytest

from diffusion import Masking, UniformNoise
from diffusion.measure import dimension
from hierarchical import RandomHierarchyModel
from theory.exact import GrammarDenoiser

KEY = np.array([0, 0], np.uint32)


@pytest.fixture(scope="module")
def grammar():
    return RandomHierarchyModel(8, 4, 2, 3, key=jax.random.key(0))


def test_every_string_of_a_hierarchy_has_its_dimension(grammar):
    """(v, m, s, L) = (8, 4, 2, 3): one class symbol of 8 and seven rules of 4, 1 + 7 ln 4 / ln 8 = 5.667 of 8."""
    x = grammar.sample(jax.random.key(1), (2, 3)).x
    found = dimension.of_strings(KEY, GrammarDenoiser(grammar, Masking(8)), x, num_orders=3)
    want = 1 + 7 * np.log(4) / np.log(8)
    assert round(want, 3) == 5.667 and found.value.shape == (2, 3)
    np.testing.assert_allclose(found.value, want, rtol=1e-6)  # 1% was asked
    np.testing.assert_allclose(found.value.mean(), grammar.entropy / np.log(8), rtol=1e-6)
    assert (found.stderr < 1e-5).all() and not found.flags["excluded"].any()


def test_a_string_that_no_rule_gives_is_excluded(grammar):
    x = np.asarray(grammar.sample(jax.random.key(1), 4).x)
    ends = np.concatenate([np.repeat(x[:1, :-1], 8, 0), np.arange(8)[:, None]], 1)  # every last symbol
    wrong = ends[~np.asarray(grammar.parse(ends).valid[0]).all(-1)][0]
    found = dimension.of_strings(KEY, GrammarDenoiser(grammar, Masking(8)), np.stack([x[0], wrong]))
    assert found.flags["excluded"].tolist() == [False, True] and np.isnan(found.stderr[0])


def test_wrong_input_is_refused_by_name(grammar):
    x = grammar.sample(jax.random.key(1), 2).x
    with pytest.raises(ValueError, match="UniformNoise"):
        dimension.of_strings(KEY, GrammarDenoiser(grammar, UniformNoise(8)), x)
    with pytest.raises(ValueError, match="num_orders = 0"):
        dimension.of_strings(KEY, GrammarDenoiser(grammar, Masking(8)), x, num_orders=0)
