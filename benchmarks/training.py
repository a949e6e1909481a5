"""How long is one training step? The tree U-Net of the default experiment, and the masked transformer and its twin.

    python -m benchmarks.training [--json PATH]

The script times whole compiled chunks, drawing the data included, and divides by the number of steps. The transformer
has no local mixing, only attention and feed-forward, for which libraries are made. Its twin is in PyTorch, run
eagerly on the same number of threads, with the same weights (its output is compared first), loss, optimiser and average
of weights, on strings given to it; it needs `pip install "phasetree[peers]"`. The floor is the time of the
transformer's matrix products alone, forward and backward, one after the other in JAX.
"""

import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.harness import Case, Row, arguments, compare, show
from diffusion import BeliefEmbedding, Fresh, Masking, TrainConfig, Transformer, TreeUNet, from_flax, train
from hierarchical import RandomHierarchyModel

STEPS, BATCH, WIDTH, LAYERS, HEADS = 20, 128, 128, 4, 4


class Twin:
    """The transformer in PyTorch: `step` trains once, `logits` is its output."""

    def __init__(self, network: Transformer, sites: int, v: int, config: TrainConfig):
        import torch

        if hasattr(os, "sched_getaffinity"):  # elsewhere PyTorch takes all cores, as JAX does
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.torch, self.sites, self.v = torch, sites, v
        self.weights = {}

        def take(name, value):
            self.weights[name] = torch.nn.Parameter(torch.from_numpy(np.array(value, np.float32)))

        take("position", network.position[...])
        for name, module in [("embedding", network.embedding.linear), ("readout", network.readout)]:
            take(f"{name}.kernel", module.kernel[...])
            take(f"{name}.bias", module.bias[...])
        take("norm", network.norm.scale[...])
        for i, layer in enumerate(network.layers):
            take(f"{i}.attention_norm", layer.attention_norm.scale[...])
            take(f"{i}.feed_norm", layer.feed_forward.norm.scale[...])
            for name, module in [
                ("rise", layer.feed_forward.rise),
                ("fall", layer.feed_forward.fall),
                ("qkv", layer.qkv),
                ("out", layer.out),
            ]:
                take(f"{i}.{name}.kernel", module.kernel[...])
                if module.bias is not None:
                    take(f"{i}.{name}.bias", module.bias[...])
        self.beliefs = torch.cat([torch.eye(v), torch.full((1, v), 1 / v)])  # of a known site, and of a masked one
        values = list(self.weights.values())
        self.average = [value.detach().clone() for value in values]
        self.optimizer = torch.optim.AdamW(
            values, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.clip, self.decay = config.clip_norm, config.ema_decay

    def _norm(self, x, name):
        scale = self.weights[name]
        return x * self.torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * scale

    def _linear(self, x, name):
        out = x @ self.weights[f"{name}.kernel"]
        return out + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else out

    def logits(self, x_t):
        functional = self.torch.nn.functional
        batch, sites = x_t.shape
        h = self._linear(self.beliefs[x_t], "embedding") + self.weights["position"]
        for i in range(LAYERS):
            qkv = self._linear(self._norm(h, f"{i}.attention_norm"), f"{i}.qkv")
            query, key, value = qkv.reshape(batch, sites, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(query, key, value)
            h = h + self._linear(attended.transpose(1, 2).reshape(batch, sites, -1), f"{i}.out")
            wide = functional.gelu(self._linear(self._norm(h, f"{i}.feed_norm"), f"{i}.rise"), approximate="tanh")
            h = h + self._linear(wide, f"{i}.fall")
        return self._linear(self._norm(h, "norm"), "readout")

    def step(self, x0) -> float:
        torch = self.torch
        masked = torch.rand(x0.shape) < torch.rand(len(x0), 1)
        losses = torch.nn.functional.cross_entropy(
            self.logits(torch.where(masked, self.v, x0)).transpose(1, 2), x0, reduction="none"
        )
        loss = (losses * masked / masked.sum(1, keepdim=True).clamp(min=1)).sum(1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        values = list(self.weights.values())
        torch.nn.utils.clip_grad_norm_(values, self.clip)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, values, 1 - self.decay)
        return loss.item()


def twin_case(network: Transformer, sites: int, v: int, config: TrainConfig) -> Case:
    import torch

    twin = Twin(network, sites, v, config)
    x_t = np.random.default_rng(0).integers(v + 1, size=(4, sites))
    with torch.no_grad():
        theirs = twin.logits(torch.from_numpy(x_t)).numpy()
    np.testing.assert_allclose(theirs, network(jnp.asarray(x_t, jnp.int32), jnp.full(4, 0.5, jnp.float32)), atol=1e-4)
    strings = torch.randint(v, (BATCH, sites))

    def check(losses):
        assert np.isfinite(losses).all(), "a loss is missing"

    return Case("transformer, PyTorch eager", lambda: [twin.step(strings) for _ in range(STEPS)], check)


def floor_case(sites: int) -> Case:
    """The matrix products of a step: forward, and for the gradients of both factors."""
    shapes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    key = jax.random.key(0)
    rows = [jax.random.normal(key, (BATCH * sites, a), jnp.float32) for a, _ in shapes]
    kernels = [jax.random.normal(key, shape, jnp.float32) for shape in shapes]
    query = jax.random.normal(key, (BATCH, HEADS, sites, WIDTH // HEADS), jnp.float32)

    @jax.jit
    def products(rows, kernels, query):
        def layer(_, state):
            kernels, query = state
            updated = []
            for x, kernel in zip(rows, kernels, strict=True):
                out = x @ kernel
                # every product depends on the round before, and the next round on all of them: none is left out
                updated.append(kernel + 1e-30 * (x.T @ out + (out @ kernel.T).max()))
            for _ in range(3):  # forward, and for both gradients
                scores = jnp.einsum("bhqd,bhkd->bhqk", query, query)
                query = 1e-3 * jnp.einsum("bhqk,bhkd->bhqd", scores, query)
            return updated, query

        return jax.lax.fori_loop(0, LAYERS * STEPS, layer, (kernels, query))

    return Case("transformer, matrix products alone", lambda: products(rows, kernels, query))


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    config = TrainConfig(steps=STEPS, steps_per_chunk=STEPS, warmup_steps=5, batch_size=BATCH)
    small = RandomHierarchyModel(8, 3, 2, 4, key=jax.random.key(0))
    large = RandomHierarchyModel(8, 3, 2, 6, key=jax.random.key(1))
    process = Masking(8)
    tree = from_flax(TreeUNet(process, small.branching, rngs=nnx.Rngs(0)), process, small.num_leaves, blind=True)
    embedding = BeliefEmbedding(process, WIDTH, rngs=nnx.Rngs(1))
    network = Transformer(embedding, large.num_leaves, 8, WIDTH, LAYERS, HEADS, reach=0, rngs=nnx.Rngs(2))
    transformer = from_flax(network, process, large.num_leaves)

    def run(denoiser, rhm):
        return train(jax.random.key(3), denoiser, Fresh(rhm), config).losses

    def check(losses):
        assert (losses > 0).all(), "a loss is missing"

    cases = [
        Case("tree U-Net, 16 sites, width 128, batch 128", lambda: run(tree, small), check),
        Case("transformer, 64 sites, width 128, 4 layers, batch 128", lambda: run(transformer, large), check),
        floor_case(large.num_leaves),
    ]
    if importlib.util.find_spec("torch"):
        cases.append(twin_case(network, large.num_leaves, 8, config))
    rows = [
        Row(row.name, row.compile_and_first, row.best / STEPS, row.median / STEPS)
        for row in compare(cases, min(options.repeats, 5))
    ]
    best = [row.best for row in rows]
    sentence = (
        f"One step takes {1e3 * best[0]:.1f} ms (tree U-Net) and {1e3 * best[1]:.0f} ms (transformer, of which matrix "
        f"products {best[2] / best[1]:.0%})"
    )
    sentence += f"; PyTorch takes {best[3] / best[1]:.2f} times as long." if len(best) > 3 else "."
    show("training step", rows, sentence, options.json)


if __name__ == "__main__":
    main()
