"""What watching costs: the same training with and without the watcher.

    OMP_NUM_THREADS=1 python -m bench.overhead [--pairs 7] [--seconds 10] [--mnist FOLDER]

A pair is two processes that train the same model from scratch and take turns, a block of steps each,
so that whatever else the machine does slows both. Prints the ratio watched / unwatched of each pair,
the median and its 95% bootstrap interval, for the processor time and for the clock. The goal is 1.02.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench.turns import interval, pair
from torch import Tensor, nn

from whyvae.watch.recordings import BUDGET
from whyvae.watch.watcher import Watcher

GOAL = 1.02
BATCH, BLOCK = 128, 10  # examples of a step, steps of a turn
MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"


class VAE(nn.Module):
    """784-400-20 on MNIST, the model of the PyTorch example."""

    def __init__(self, features: int, hidden: int = 400, latents: int = 20) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.mu, self.logvar = nn.Linear(hidden, latents), nn.Linear(hidden, latents)
        self.fc3, self.fc4 = nn.Linear(latents, hidden), nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


def turns(data: Tensor) -> Iterator[tuple[float, float]]:
    """Trains; yields (processor seconds, clock seconds) of each block of steps."""
    torch.manual_seed(0)
    model = VAE(data.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = endless(data)
    while True:
        processor, clock = time.process_time(), time.perf_counter()
        for _ in range(BLOCK):
            x = next(batches)
            optimizer.zero_grad()
            output, mu, logvar = model(x)
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            loss = F.binary_cross_entropy(output, x, reduction="sum") + kl
            loss.backward()
            optimizer.step()
        yield time.process_time() - processor, time.perf_counter() - clock


def endless(data: Tensor) -> Iterator[Tensor]:
    while True:
        yield from data[torch.randperm(len(data))].split(BATCH)


def work(data: Tensor, *, watched: bool) -> None:
    """One side of a pair: a line in, a block of steps, its seconds out."""
    next(turns(data))  # libraries loaded, caches filled
    # The watcher counts the other's turns as time of the run: half the budget is the usual share.
    with Watcher(budget=BUDGET / 2) if watched else nullcontext():
        for (processor, clock), _ in zip(turns(data), sys.stdin, strict=False):
            print(processor, clock, flush=True)


def load(mnist: Path) -> tuple[str, Tensor]:
    file = mnist / "t10k-images-idx3-ubyte.gz"
    if file.is_file():
        pixels = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16)
        return "MNIST", torch.tensor(pixels.reshape(-1, 784), dtype=torch.float32) / 255
    from sklearn.datasets import load_digits

    return "digits", torch.tensor(load_digits().data, dtype=torch.float32) / 16


def main() -> None:
    parser = argparse.ArgumentParser(description="What watching costs.")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10, help="length of one training")
    parser.add_argument("--mnist", type=Path, default=MNIST, help="folder with the idx files")
    parser.add_argument("--side", choices=("plain", "watched"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    name, data = load(options.mnist)
    if options.side:
        work(data, watched=options.side == "watched")
        return
    print(f"{name}, {options.seconds:g} s a training, {torch.get_num_threads()} thread(s)")
    ratios = []
    for count in range(1, options.pairs + 1):
        sides = (
            [sys.executable, "-m", "bench.overhead", "--side", side, "--mnist", str(options.mnist)]
            for side in ("plain", "watched")
        )
        plain, watched = pair(*sides, options.seconds)
        ratios.append(watched.spent / plain.spent)
        seconds = f"{plain.spent[0]:.2f} s against {watched.spent[0]:.2f} s"
        print(f"pair {count}: processor {ratios[-1][0]:.4f} ({seconds})  clock {ratios[-1][1]:.4f}")
    for kind, values in zip(("processor", "clock"), np.transpose(ratios), strict=True):
        median, low, high = interval(values)
        print(f"{kind:9s} median {median:.4f}, 95% interval {low:.4f} to {high:.4f} (goal {GOAL})")


if __name__ == "__main__":
    main()
