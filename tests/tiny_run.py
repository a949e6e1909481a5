"""A training run of a few seconds, the same in every process that asks for it.

`python -m tests.tiny_run FOLDER PAUSE` runs it with checkpoints, reporting each chunk and then waiting PAUSE seconds;
without arguments it prints, as JSON, the losses, those of an autoencoder, the number of devices and what a batch of 12
strings gives.
"""

import json
import sys
import time

import tests.conftest  # noqa: F401  (the settings of the tests, also in a process of its own)

# isort: split
import jax
import numpy as np
from flax import nnx

from diffusion import (
    DenseVAE,
    Fresh,
    Masking,
    TrainConfig,
    TreeUNet,
    from_flax,
    from_vae,
    train,
    train_autoencoder,
)
from hierarchical import two_clusters
from tests.grammars import enumerated

KEY = np.array([0, 0], np.uint32)
CONFIG = TrainConfig(steps=100, batch_size=16, warmup_steps=10, steps_per_chunk=10, steps_per_checkpoint=20)


def denoiser(width=8, weights=0):
    process = Masking(3)
    return from_flax(TreeUNet(process, (2, 2), width, rngs=nnx.Rngs(weights)), process, 4, blind=True)


def run(folder=None, config=CONFIG, width=8, seed=1, weights=0, data=None, **options):
    data = data or Fresh(enumerated("uniform")[0])
    return train(jax.random.key(seed), denoiser(width, weights), data, config, folder=folder, **options)


def autoencoder(folder=None, config=CONFIG, beta=0.5, **options):
    network, data = from_vae(DenseVAE(3, 2, 8, 1, rngs=nnx.Rngs(0)), beta=beta), Fresh(two_clusters(KEY, 3, 1.0))
    return train_autoencoder(jax.random.key(1), network, data, config, folder=folder, **options)


def main():
    if len(sys.argv) > 1:
        folder, pause = sys.argv[1], float(sys.argv[2])
        run(folder, report=lambda step, loss: (print(step, flush=True), time.sleep(pause)))
        return
    try:
        run(config=TrainConfig(steps=1, batch_size=12))
        message = None
    except ValueError as error:
        message = str(error)
    losses = {"losses": run().losses.tolist(), "autoencoder": autoencoder().losses.tolist()}
    print(json.dumps({**losses, "devices": jax.device_count(), "batch of 12": message}))


if __name__ == "__main__":
    main()
