"""The README tells the truth: its code runs and prints what it says, its commands are those that CI runs."""

import contextlib
import importlib.util
import io
import pathlib
import re
import types

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_ten_lines_print_what_the_readme_shows():
    code, shown = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()  # pyright: ignore
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    numbers = r"\d+(?:\.\d+)?"
    assert re.sub(numbers, "#", printed.getvalue()) == re.sub(numbers, "#", shown)
    for got, told in zip(re.findall(numbers, printed.getvalue()), re.findall(numbers, shown), strict=True):
        assert abs(float(got) - float(told)) <= (5 if told == "52" else 1e-9)  # 1000 draws: 1.6% standard error


def test_the_figure_and_the_pages_it_points_to_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_page_on_own_models_runs():
    """Its first block as it stands; the one on diffusers, where PyTorch is installed, with a model of that style."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own-model.md").read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks[0], "own-model.md", "exec"), names := {})
    assert re.fullmatch(r"0\.\d\d of the symbols change; chi = \d\.\d \+- \d\.\d\n", printed.getvalue())
    if importlib.util.find_spec("torch"):
        import torch

        def model(tokens, timestep):
            assert tokens.dtype == timestep.dtype == torch.int64
            return types.SimpleNamespace(sample=torch.zeros(len(tokens), 4, tokens.shape[1]))

        exec(
            compile(blocks[2], "own-model.md", "exec"),
            names | {"torch": torch, "model": model, "v": 4, "num_sites": 16},
        )
