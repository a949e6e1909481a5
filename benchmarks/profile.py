"""Where does the time of a kernel go? The operations of a traced call, summed by purpose.

    python -m benchmarks.profile KERNEL

Kernels: belief_propagation, sampler, forward_backward, density_evolution, training. Shares are of the traced time;
"between operations" is what no operation accounts for: loops, calls and the trace itself. The script also
prints the time without a trace, the program's flops and bytes as XLA counts them (a loop of unknown length once), and
the speed of this machine: copies of 1 MiB and of 256 MiB, a matrix product of 1024. Pin the process to a core for
figures that compare.
"""

import argparse
import collections
import gzip
import json
import pathlib
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.table import Table

import diffusion
from benchmarks.harness import header
from diffusion import Masking, TreeUNet, from_flax
from diffusion.denoise.loss import posterior_loss
from diffusion.measure import level_retention
from hierarchical import RandomHierarchyModel, sample_strings
from theory.ensemble import population
from theory.exact import GrammarDenoiser
from theory.inference.fast import sweep

Kernel = tuple[Callable, tuple, dict[str, str]]  # a function, its arguments, and what parts of operations' names mean


def belief_propagation() -> Kernel:
    rhm = RandomHierarchyModel(32, 8, 2, 10, key=jax.random.key(0))
    evidence = jax.random.normal(jax.random.key(1), (64, rhm.num_leaves, 32), jnp.float32)
    scopes = ("lists", "leaves", "upward", "downward", "lanes to data")
    return sweep.marginals, (rhm, evidence), {scope: scope for scope in scopes}


def sampler() -> Kernel:
    rhm = RandomHierarchyModel(32, 8, 2, 8, key=jax.random.key(0))
    return lambda key: sample_strings(key, rhm, 100_000, dtype=jnp.int8), (jax.random.key(1),), {"gather": "look-ups"}


def forward_backward() -> Kernel:
    rhm, runs = RandomHierarchyModel(32, 8, 2, 9, key=jax.random.key(0)), 2048
    process = Masking(32)
    exact, strings = GrammarDenoiser(rhm, process), sample_strings(jax.random.key(1), rhm, runs)

    def retention(key, strings):
        times = jnp.full(runs, 0.27, jnp.float32)
        return level_retention(rhm, strings, diffusion.forward_backward(key, exact, strings, times)[0])

    scopes = ("lists", "leaves", "upward", "draws", "bernoulli")
    return retention, (jax.random.key(2), strings), {scope: scope for scope in scopes}


def evolution() -> Kernel:
    ancestry = population.draw_ancestry(jax.random.key(0), 32, 8, 2, 12, 4096, 64)
    parts = {"sort": "leaves sorted", "leaves": "rest of the leaves", "levels": "levels"}
    times = jnp.linspace(0.1, 0.8, 8, dtype=jnp.float32)
    return population.evolve, (jax.random.key(1), ancestry, Masking(32), times), parts


def training() -> Kernel:
    """Loss and gradient of the default network; the optimiser is not in it."""
    rhm, process = RandomHierarchyModel(8, 3, 2, 4, key=jax.random.key(0)), Masking(8)
    denoiser = from_flax(TreeUNet(process, rhm.branching, rngs=nnx.Rngs(0)), process, rhm.num_leaves, blind=True)
    x0, t = sample_strings(jax.random.key(1), rhm, 128), jnp.linspace(0.1, 0.9, 128, dtype=jnp.float32)
    x_t = jax.vmap(process.corrupt)(jax.random.split(jax.random.key(2), 128), x0, t)

    def loss(params):
        log_probs = eqx.tree_at(lambda d: d.params, denoiser, params).cavity(x_t, t)
        return posterior_loss(log_probs, x0, jnp.full(x0.shape, 1 / x0.shape[1], jnp.float32)).mean()

    return jax.value_and_grad(loss), (denoiser.params,), {"transpose(": "backward", "jvp(": "forward"}


KERNELS: dict[str, Callable[[], Kernel]] = {
    "belief_propagation": belief_propagation,
    "sampler": sampler,
    "forward_backward": forward_backward,
    "density_evolution": evolution,
    "training": training,
}


def seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """Best time of `repeats` calls, after a call that compiles."""
    jax.block_until_ready(call())
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        spent.append(time.perf_counter() - start)
    return min(spent)


def traced(call: Callable[[], Any]) -> list[dict]:
    """Events of a traced call: name and duration of every operation."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        (path,) = pathlib.Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def shares(events: list[dict], program: str, parts: dict[str, str]) -> dict[str, float]:
    """Seconds by part; operations of loops are counted, loops are not."""
    operation = dict(re.findall(r'%(\S+) = .*?metadata=\{op_name="([^"]*)"', program))
    whole = max(event["dur"] for event in events if event["name"].startswith("ThunkExecutor::Execute"))
    spent: collections.Counter[str] = collections.Counter()
    for event in events:
        name = operation.get(event["name"])
        if name is None or re.match(r"(while|call|conditional)\b", event["name"]):
            continue
        label = next((label for part, label in parts.items() if part in name), "other operations")
        spent[label] += event["dur"]
    spent["between operations"] = whole - sum(spent.values())
    return {label: 1e-6 * duration for label, duration in spent.most_common()}


def machine() -> str:
    """Measured rates of this device."""
    rates = []
    for mebibytes in (1, 256):
        x = jnp.ones(mebibytes * 2**18, jnp.float32)
        copy = jax.jit(lambda x: x + 1)
        rates.append(f"{2 * x.nbytes / seconds(lambda c=copy, x=x: c(x)) / 1e9:.0f} GB/s of {mebibytes} MiB")
    a = jnp.ones((1024, 1024), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    rates.append(f"{2 * 1024**3 / seconds(lambda: product(a)) / 1e9:.0f} GFLOP/s")
    return f"This machine: copies {rates[0]} and {rates[1]}, products {rates[2]}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernel", choices=KERNELS)
    name = parser.parse_args().kernel
    function, arguments, parts = KERNELS[name]()
    compiled = jax.jit(function).lower(*arguments).compile()

    def call():
        return compiled(*arguments)

    best = seconds(call)
    durations = shares(traced(call), compiled.as_text(), parts)
    total = sum(durations.values())
    table = Table("part", "traced (ms)", "share", title=f"{name}: {1e3 * best:.1f} ms untraced")
    for label, spent in durations.items():
        table.add_row(label, f"{1e3 * spent:.2f}", f"{spent / total:.0%}")
    console = Console()
    console.print(*(f"{key} {value}" for key, value in header().items()), sep=" | ")
    console.print(table)
    counted = compiled.cost_analysis() or {}
    flops, moved = counted.get("flops", 0) / 1e6, counted.get("bytes accessed", 0) / 1e6
    console.print(f"XLA counts {flops:.0f} MFLOP and {moved:.0f} MB, loops once.")
    console.print(machine())


if __name__ == "__main__":
    main()
