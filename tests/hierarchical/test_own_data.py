"""The page on one's own data runs as it stands, on the files that it shows."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "own-data.md"


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "photos").mkdir()
    for i in range(100):
        Image.fromarray(np.full((20, 30), i, np.uint8)).save(folder / "photos" / f"{i}.png")
    (folder / "book.txt").write_text("Call me Ishmael. " * 200)
    (folder / "proteins.csv").write_text(block("text"))
    (folder / "rules.json").write_text(block("json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(block("python"), str(PAGE), "exec"), names := {})
    return names


def test_every_kind_of_file_is_read(read):
    assert read["images"].pixels.shape == (100, 16, 16, 1)
    assert read["text"].characters.startswith("Call me")
    np.testing.assert_array_equal(read["sequences"].tokens, [[0, 2, 1, 1], [2, 0, 0, 1]])
    assert read["rhm"].vocabulary == (2, 3, 3) and read["rhm"].num_synonyms == (2, 1)
    np.testing.assert_allclose(np.exp(read["rhm"].log_prob_of_rules(0)), [[0.5, 0.5], [0.9, 0.1]])
