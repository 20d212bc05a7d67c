"""Batches for training: from memory by indexing a tensor, or from the disk. Which rows a step gets depends on the step
alone, so a run that was interrupted goes on with the rows it would have had.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whyvae.data import Codec, Dataset
from whyvae.data.summary import Streamed

WINDOW = 16384  # rows shuffled together when streamed
MOST_HELD_OUT = 4096
BLOCK = 256  # rows read in one piece
MOST_NUMBERS = 30_000_000  # held at once of rows that are looked at together: 120 MB


@dataclass(frozen=True)
class Split:
    """Positions of rows."""

    train: Any
    held_out: Any

    @classmethod
    def of(cls, data: Dataset, share: float, seed: int) -> Split:
        """`share` of the rows is held out, but no more than MOST_HELD_OUT."""
        order = np.random.default_rng([seed, 1]).permutation(len(data))
        count = min(affordable(MOST_HELD_OUT, data.shape), max(1, round(share * len(data))))
        return cls(np.sort(order[count:]), np.sort(order[:count]))


def affordable(rows: int, shape: tuple[int, ...]) -> int:
    """Up to so many rows of this shape, fewer of large ones: at most MOST_NUMBERS in all."""
    return max(1, min(rows, MOST_NUMBERS // math.prod(shape)))


class Feed:
    """`at(step)` is the batch of a step, [batch, *model_shape]; with several processes each gets its share of it."""

    def __init__(
        self,
        data: Dataset,
        codec: Codec,
        rows: Any,
        batch: int,
        seed: int,
        device: torch.device,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.data, self.codec, self.rows, self.seed, self.device, self.part = data, codec, rows, seed, device, part
        self.batch = min(batch, len(rows))
        self.per_epoch = len(rows) // self.batch
        self.streamed = isinstance(data.rows, Streamed)
        held = None if self.streamed else codec.encode(data.take(rows))
        self._here = held.numpy() if held is not None and device.type == "cpu" else None
        self._there = held.to(device) if held is not None and device.type != "cpu" else None
        self._epoch, self._order = -1, rows

    def at(self, step: int) -> Tensor:
        epoch, i = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        where = slice(i * self.batch + self.part[0], (i + 1) * self.batch, self.part[1])
        chosen = self._order[where]
        if self._here is not None:  # as an array: whoever watches torch sees a batch, not all rows and an index
            return torch.from_numpy(self._here[chosen])
        if self._there is not None:
            return self._there[torch.from_numpy(chosen).to(self.device)]
        return self.read(chosen)

    def read(self, rows: Any) -> Tensor:
        """These rows of the data, encoded."""
        return self.codec.encode(self.data.take(rows)).to(self.device)

    def some(self, most: int) -> Tensor:
        """Up to `most` rows, spread over the data, [k, *model_shape]."""
        most = affordable(most, self.codec.model_shape)
        which = np.linspace(0, len(self.rows) - 1, min(most, len(self.rows))).round().astype(np.int64)
        return self.read(self.rows[which])

    def _shuffled(self, epoch: int) -> Any:
        """In memory: positions among `rows`. On the disk: blocks of neighbours in random order, shuffled in windows."""
        random = np.random.default_rng([self.seed, 2, epoch])
        if not self.streamed:
            return random.permutation(len(self.rows))
        starts = random.permutation(np.arange(0, len(self.rows), BLOCK))
        per_window = WINDOW // BLOCK
        windows = [starts[i : i + per_window] for i in range(0, len(starts), per_window)]
        parts = [np.concatenate([self.rows[s : s + BLOCK] for s in window]) for window in windows]
        return np.concatenate([random.permutation(part) for part in parts])
