"""The README tells the truth: its code runs and prints what it says, its commands are those that CI runs."""

import contextlib
import importlib.util
import io
import pathlib
import re
import types

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_ten_lines_print_what_the_readme_shows():
    code, shown = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()  # pyright: ignore
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    numbers = r"\d+(?:\.\d+)?"
    assert re.sub(numbers, "#", printed.getvalue()) == re.sub(numbers, "#", shown)
    for got, quoted in zip(re.findall(numbers, printed.getvalue()), re.findall(numbers, shown), strict=True):
        assert abs(float(got) - float(quoted)) <= (5 if quoted == "52" else 1e-9)  # 1000 draws: 1.6% standard error


def test_two_commands_make_their_own_environment():
    """`.ci/run` reads them from here and runs them as they stand."""
    first, second = re.findall(r"^```sh\n(.*?)\n```$", README, re.DOTALL | re.MULTILINE)
    for command in (first, second):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ")
    assert first.endswith(" && .venv/bin/phasetree transition") and second.endswith(" && .venv/bin/pytest -n 2")
    assert second in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_figure_and_the_pages_it_points_to_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_the_page_on_own_models_runs():
    """Its first block as it stands; those on diffusers, where PyTorch is installed, with models of that style."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own-model.md").read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks[0], "own-model.md", "exec"), names := {})
    assert re.fullmatch(r"0\.\d\d of the symbols change; chi = \d\.\d \+- \d\.\d\n", printed.getvalue())
    if importlib.util.find_spec("torch"):
        _run_with_torch(blocks[2], blocks[3], names)


@pytest.mark.slow
def test_the_page_on_dimension_runs():
    """But for its third block, which prints the table and takes half a minute."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "dimension.md").read_text(), re.DOTALL)
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number in (0, 1, 3):
            exec(compile(blocks[number], "dimension.md", "exec"), names)
        with jax.enable_x64(False):  # a user's precision, on which random numbers depend
            exec(compile(blocks[4], "dimension.md", "exec"), names)
    lines = printed.getvalue().splitlines()
    assert abs(float(lines[0].split()[0]) - 5) < 1 and any(line.startswith("plateau from s") for line in lines)
    assert lines[-4] == "[10. 10. 10. 10. 10. 10. 10. 10.]"
    assert [round(float(number), 1) for line in lines[-2:] for number in line.split()[1:]] == [75.3, 73.3, 86.7, 85.3]


def test_the_page_on_memorisation_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "memorisation.md").read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "memorisation.md", "exec"), {})
    assert "| FLIPD | 1.000 +- 0.000 |" in printed.getvalue()


@pytest.mark.slow
def test_the_page_on_anomalies_runs():
    """Its first block; the others, which print the tables, take half an hour and five minutes."""
    code, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "anomalies.md").read_text(), re.DOTALL)
    exec(compile(code, "anomalies.md", "exec"), names := {})
    assert not names["broken"].latent.tree.valid[0].any()


@pytest.mark.slow
def test_the_page_on_latent_diffusion_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "latent-diffusion.md").read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "latent-diffusion.md", "exec"), {})
    shape, share = re.fullmatch(r"(.*) (.*) of them grammatical\n", printed.getvalue()).groups()
    assert shape == "(1000, 8)" and float(share) > 0.8


def test_the_page_on_inference_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "inference.md").read_text(), re.DOTALL)
    exec(compile(code, "inference.md", "exec"), names := {})
    completion = names["theory"].most_likely(names["rhm"], names["evidence"]).derivation.leaves
    shown = np.asarray(names["x"]) >= 0
    np.testing.assert_array_equal(completion[shown], names["x"][shown])


def _run_with_torch(images: str, tokens: str, names: dict):
    import torch

    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    steps = []

    def denoiser_of_images(x_t, timestep):
        """Knows that the image is 0: all of x_t is noise."""
        steps.append(int(timestep))
        return types.SimpleNamespace(sample=x_t / (1 - abar[timestep]).sqrt())

    def denoiser_of_tokens(x_t, timestep):
        assert x_t.dtype == timestep.dtype == torch.int64
        return types.SimpleNamespace(sample=torch.zeros(len(x_t), 4, x_t.shape[1]))

    scheduler, image = types.SimpleNamespace(alphas_cumprod=abar), names["jnp"].ones((3, 32, 32), "float32")
    given = {"torch": torch, "scheduler": scheduler, "image": image, "v": 4, "num_sites": 16}
    exec(compile(images, "own-model.md", "exec"), found := names | given | {"model": denoiser_of_images})
    assert found["again"].shape == (16, 3, 32, 32)
    assert abs(found["again"]).max() < 0.1  # steps of the schedule are not exactly at the times of the sampler
    for step, t in ((max(steps[1:]), 0.8), (min(steps), 0.01)):
        assert abs(abar[step] - np.exp(-2 * t)) < 0.002
    exec(compile(tokens, "own-model.md", "exec"), found | {"model": denoiser_of_tokens})
