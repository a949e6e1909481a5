"""How training is told while it runs: steps, the loss, and the time left, also of a run that was resumed."""

import contextlib
from collections.abc import Callable, Iterator

from tqdm import tqdm

from diffusion import TrainConfig


@contextlib.contextmanager
def training_bar(description: str, config: TrainConfig, loss: str = "loss {:.4f}") -> Iterator[Callable[..., None]]:
    """Gives the `report` that `train` and `descend` call; `loss` says how one is written."""
    with tqdm(desc=description, total=config.steps, unit="step") as bar:

        def report(step: int, value: float) -> None:
            if not bar.n:  # the first chunk, perhaps of a resumed run
                bar.initial = bar.n = bar.last_print_n = step - min(step, config.steps_per_chunk)
            bar.set_postfix_str(loss.format(value), refresh=False)
            bar.update(step - bar.n)

        yield report
        if not bar.n:  # it was trained already
            bar.initial = bar.n = config.steps
