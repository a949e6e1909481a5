"""How long is one training step? The tree U-Net of the default experiment and the masked transformer.

    python -m benchmarks.training [--json PATH]

Timed are whole compiled chunks, drawing the data included; the figure is their time over the number of steps.
"""

import jax
from flax import nnx

from benchmarks.harness import Case, Row, arguments, compare, show
from diffusion import BeliefEmbedding, FreshStrings, Masking, TrainConfig, Transformer, TreeUNet, from_flax, train
from hierarchical import RandomHierarchyModel

STEPS = 20


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    config = TrainConfig(steps=STEPS, steps_per_chunk=STEPS, warmup_steps=5)
    small = RandomHierarchyModel(8, 3, 2, 4, key=jax.random.key(0))
    large = RandomHierarchyModel(8, 3, 2, 6, key=jax.random.key(1))
    process = Masking(8)
    tree = from_flax(TreeUNet(process, small.branching, rngs=nnx.Rngs(0)), process, small.num_leaves, blind=True)
    embedding = BeliefEmbedding(process, 128, rngs=nnx.Rngs(1))
    network = Transformer(embedding, large.num_leaves, 8, rngs=nnx.Rngs(2))
    transformer = from_flax(network, process, large.num_leaves)

    def run(denoiser, rhm):
        return train(jax.random.key(3), denoiser, FreshStrings(rhm), config).losses

    def check(losses):
        assert (losses > 0).all(), "a loss is missing"

    cases = [
        Case("tree U-Net, 16 sites, width 128, batch 128", lambda: run(tree, small), check),
        Case("transformer, 64 sites, width 128, 4 layers, batch 128", lambda: run(transformer, large), check),
    ]
    rows = [
        Row(row.name, row.compile_and_first, row.best / STEPS, row.median / STEPS)
        for row in compare(cases, min(options.repeats, 5))
    ]
    sentence = f"One step takes {1e3 * rows[0].best:.1f} ms (tree U-Net) and {1e3 * rows[1].best:.0f} ms (transformer)."
    show("training step", rows, sentence, options.json)


if __name__ == "__main__":
    main()
