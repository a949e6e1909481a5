"""A digest follows from contents: equal ones agree in every process, different ones differ."""

import os
import pathlib
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from diffusion import GaussianProcess, Masking, TreeUNet, from_flax
from diffusion.folders.identity import digest

ROOT = pathlib.Path(__file__).parents[3]


class Scaled(eqx.Module):
    weight: jax.Array
    size: int = eqx.field(static=True)

    def __call__(self, x):
        return self.weight * x


def shifted(shift):
    return lambda x: x + shift


GLOBAL = np.arange(3)


def reads_a_global(x):
    return x + GLOBAL


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def tree(seed, width=8):
    network = TreeUNet(Masking(3), (2, 2), width, rngs=nnx.Rngs(seed))
    return from_flax(network, Masking(3), 4, blind=True)


MADE = {
    "array": (lambda: jnp.arange(3), lambda: jnp.arange(3) + 1, lambda: jnp.arange(3.0), lambda: jnp.arange(3)[None]),
    "key": (lambda: jax.random.key(0), lambda: jax.random.key(1), lambda: jax.random.key(0, impl="rbg")),
    "module": (lambda: Scaled(jnp.ones(2), 1), lambda: Scaled(jnp.ones(2), 2), lambda: Scaled(jnp.zeros(2), 1)),
    "closure": (lambda: shifted(1), lambda: shifted(2), lambda: shifted(np.ones(2))),
    "code": (lambda: lambda x: x + 1, lambda: lambda x: x - 1, lambda: lambda x: x + 2),
    "network": (lambda: tree(0), lambda: tree(1), lambda: tree(0, 16)),
    "optimiser": (lambda: optax.adam(1e-3), lambda: optax.adam(2e-3), lambda: optax.sgd(1e-3)),
    "schedule": (
        lambda: optax.adam(optax.linear_schedule(1, 0, 9)),
        lambda: optax.adam(optax.linear_schedule(1, 0, 8)),
    ),
    "process": (lambda: Masking(3), lambda: Masking(4), lambda: GaussianProcess(3)),
    "compiled": (lambda: jnp.tanh, lambda: jnp.sinh, lambda: np.sin, lambda: np.cos, lambda: jnp.add),
    "slots": (lambda: Slots(1), lambda: Slots(2)),
    "set": (lambda: {"a", "b", "c"}, lambda: {"a", "b"}),
    "dictionary": (lambda: {"a": 1, "b": 2}, lambda: {"a": 2, "b": 1}),
    "treedef": (lambda: jax.tree.structure((1, {"a": 2})), lambda: jax.tree.structure((1, {"b": 2}))),
}


@pytest.mark.parametrize("kind", MADE)
def test_equal_contents_agree_and_others_differ(kind):
    digests = [digest(make()) for make in MADE[kind]]
    assert len(set(digests)) == len(digests)
    assert digests == [digest(make()) for make in MADE[kind]]


def test_the_order_of_a_dictionary_does_not_matter():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_a_global_that_code_reads_counts(monkeypatch):
    before = digest(reads_a_global)
    monkeypatch.setitem(globals(), "GLOBAL", np.arange(4))
    assert digest(reads_a_global) != before


def test_a_value_that_contains_itself_has_a_digest():
    ring = [1]
    ring.append(ring)
    assert digest(ring) == digest(ring)


def test_every_process_computes_the_same_digests():
    """Hashes of strings differ from process to process, and addresses do."""
    child = (
        "import tests.conftest; from tests.diffusion.folders.test_identity import MADE, digest; "
        "print({kind: [digest(make()) for make in MADE[kind]] for kind in MADE})"
    )
    run = subprocess.run(
        [sys.executable, "-c", child],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    kinds = [
        kind for kind in MADE if kind not in ("code", "closure", "slots")
    ]  # pytest compiles asserting modules anew
    here = {kind: [digest(make()) for make in MADE[kind]] for kind in MADE}
    there = eval(run.stdout)
    assert {kind: here[kind] for kind in kinds} == {kind: there[kind] for kind in kinds}
