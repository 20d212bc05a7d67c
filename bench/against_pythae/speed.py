"""Steps a second with one network: our loop and pythae's, each with everything it does in a training, in turns.

Both train the very same modules on the same rows with the same batch size, and evaluate held-out rows once an epoch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.against_pythae.theirs import needed
from bench.overhead import load
from bench.turns import interval, pair
from torch import Tensor

from whyvae.data import Dataset
from whyvae.data.raw import Raw
from whyvae.models import mlp
from whyvae.models.build import ModelConfig
from whyvae.train import train
from whyvae.training.run import TrainConfig

LATENTS, WIDTHS, BATCH = 10, (512,), 64  # pythae's defaults
BLOCK = 50  # steps of a turn
HELD_OUT = 0.1
SIDES = ("ours", "ours --amp", "pythae")


def rows_of(data: str, mnist: Path) -> Tensor:
    """[n, 1, H, W] in [0, 1]."""
    name, flat = load(mnist if data == "MNIST" else Path("no-such-folder"))
    if name != data:
        raise FileNotFoundError(f"{mnist} holds no MNIST: give --mnist FOLDER")
    side = round(flat.shape[1] ** 0.5)
    return flat.reshape(-1, 1, side, side)


def work(side: str, rows: Tensor) -> None:
    """A side of a pair: a line in, a block of steps, its seconds out; ends with its input."""
    answer = _Answer()
    if side == "pythae":
        _pythae(rows, answer)
    else:
        _ours(rows, answer, amp=side.endswith("amp"))


class _Answer:
    """Called after each block. The first, with all that is loaded and built, is not counted."""

    def __init__(self) -> None:
        self.out, sys.stdout = sys.stdout, sys.stderr  # whatever is printed by others goes elsewhere
        self.began: tuple[float, float] | None = None

    def __call__(self) -> None:
        if self.began is not None:
            print(time.process_time() - self.began[0], time.perf_counter() - self.began[1], file=self.out, flush=True)
        if not sys.stdin.readline():
            raise SystemExit
        self.began = time.process_time(), time.perf_counter()


def _ours(rows: Tensor, block_done: Callable[[], None], *, amp: bool) -> None:
    data = Dataset.unchecked(Raw(rows.numpy(), kind="image"), "bench")
    epochs = 100_000  # ended from outside
    steps = epochs * int(len(rows) * (1 - HELD_OUT) // BATCH)
    model = ModelConfig(family="mlp", latents=LATENTS, widths=WIDTHS, likelihood="gaussian")
    config = TrainConfig(
        steps=steps, batch=BATCH, checks=epochs, log_every=BLOCK, held_out=HELD_OUT, lr=1e-4, amp=amp, device="cpu"
    )
    train(data, model, config, told=lambda line: block_done() if "nll" in line else None)


def _pythae(rows: Tensor, block_done: Callable[[], None]) -> None:
    pythae = needed()
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers.training_callbacks import TrainingCallback

    class Encoder(BaseEncoder):  # type: ignore[misc] # pythae is untyped
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp.Encoder(rows.shape[1:], LATENTS, WIDTHS)

        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.net(x)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp.Decoder(rows.shape[1:], LATENTS, WIDTHS)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z))

    class Turns(TrainingCallback):  # type: ignore[misc]
        steps = 0

        def on_train_step_end(self, *_: Any, **__: Any) -> None:
            self.steps += 1
            if self.steps % BLOCK == 0:
                block_done()

    cut = int(len(rows) * (1 - HELD_OUT))
    model = pythae.models.VAE(
        pythae.models.VAEConfig(input_dim=tuple(rows.shape[1:]), latent_dim=LATENTS), Encoder(), Decoder()
    )
    config = pythae.trainers.BaseTrainerConfig(num_epochs=100_000, per_device_train_batch_size=BATCH, no_cuda=True)
    pythae.pipelines.TrainingPipeline(model, config)(rows[:cut], rows[cut:], callbacks=[Turns()])


def compared(data: str, ours: str, mnist: Path, pairs: int, seconds: float) -> dict[str, Any]:
    """pythae's time over ours, by processor time and by the clock."""
    ratios, steps = [], []
    for _ in range(pairs):
        commands = [
            [sys.executable, "-m", "bench.against_pythae", "--side", side, "--data", data, "--mnist", str(mnist)]
            for side in (ours, "pythae")
        ]
        one, other = pair(*commands, seconds)
        ratios.append(other.spent / one.spent)
        steps.append([one.spent[0], other.spent[0]])
        print(f"  {data}, {ours}: processor {ratios[-1][0]:.2f}, clock {ratios[-1][1]:.2f}", flush=True)
    processor, clock = (interval(values) for values in np.transpose(ratios))
    return {
        "data": data,
        "ours": ours,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "processor": processor,
        "clock": clock,
    }
