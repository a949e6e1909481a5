"""Rule tables of a file in the place of a drawn grammar."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from hierarchical import RandomHierarchyModel
from phasetree.experiments import susceptibility, transition


def written(rhm, file):
    file.write_text(json.dumps({"rules": [np.asarray(table).tolist() for table in rhm.rules]}))
    return file


@pytest.mark.parametrize("experiment", [transition, susceptibility])
def test_the_file_gives_rules_and_sizes(experiment, tmp_path):
    rhm = RandomHierarchyModel(4, 2, 3, 2, key=jax.random.key(0))
    config = dataclasses.replace(experiment.Config(), rules=written(rhm, tmp_path / "mine.json"))
    assert (config.num_symbols, config.num_synonyms, config.branching, config.depth) == (4, 2, 3, 2)
    assert config.label == "default-mine"
    grammar = config.grammar(jax.random.key(1))
    assert all(np.array_equal(*tables) for tables in zip(grammar.rules, rhm.rules, strict=True))


def test_grammars_that_averages_cannot_stand_beside_are_refused(tmp_path):
    uneven = RandomHierarchyModel((4, 6), 2, 2, key=jax.random.key(0))
    file = written(uneven, tmp_path / "uneven.json")
    with pytest.raises(ValueError, match=r"levels differ: .* which this experiment needs"):
        dataclasses.replace(transition.Config(), rules=file)
    with pytest.raises(ValueError, match=r"num_grammars = 2: the file .* holds one grammar"):
        dataclasses.replace(transition.Config(), rules=file, num_grammars=2)


def test_the_ensemble_stays_random(tmp_path):
    rhm = RandomHierarchyModel(4, 2, 2, 2, key=jax.random.key(0))
    config = dataclasses.replace(transition.Config(), rules=written(rhm, tmp_path / "mine.json"))
    one, other = (config.random_grammar(jax.random.key(n)) for n in (1, 2))
    assert not np.array_equal(one.rules[0], other.rules[0]) and config.random_grammar(jax.random.key(1), 3).depth == 3
