"""How many different examples the model is shown, and how much they differ."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import input_rows, numbers_beside
from whyvae.verdict import Where
from whyvae.watch.draws import HIERARCHY

MOST_ROWS = 100_000  # of classes, which are compared
STILL = 1e-6  # of the largest number: below it lies the rounding of float32


@dataclass(frozen=True)
class Variety(Probe):
    """What the encoder was shown on the recorded steps. `rows` examples, `distinct` of them different; `estimate`: different
    examples in all that the script draws from, judged by how often they came again (inf: none did, or they
    are drawn anew at each step). Where a table enters as several tensors, examples differ where one of these does.

    `commonest`: share of the rows that are the most frequent example. `moving`: features that are not the same in all
    examples. `available`: examples in the data set or tensor the batches were taken from (0: not seen).
    """

    steps: int
    rows: int
    distinct: int
    estimate: float
    commonest: float
    moving: int
    features: int
    available: int
    latents: int
    binary: bool
    at: Where | None

    @classmethod
    def measure(cls, subject: Any) -> Self:
        if subject.lineage.posterior == HIERARCHY:
            raise CannotMeasure(
                "does not apply: of a hierarchy, what one of its latents is made from is no whole example"
            )
        rows = input_rows(subject)
        if not bool(torch.isfinite(rows).all()):
            raise CannotMeasure("explained by DAT01: the data are no numbers to compare")
        if rows.shape[0] < 2:
            raise CannotMeasure("does not apply: one example in all recorded steps")
        drawn = subject.lineage.data in subject.deps.drawn
        whole = torch.cat([rows, *numbers_beside(subject)], 1)
        if drawn:  # a replay draws the same each time
            rows, whole = rows[: subject.batch], whole[: subject.batch]
        counts = Counter(_keys(whole))
        size = float(rows.abs().max())
        moving = int(((rows.amax(0) - rows.amin(0)) > STILL * max(size, 1e-300)).sum())
        return cls(
            max(1, len(subject.train)), rows.shape[0], len(counts),
            math.inf if drawn else estimated(rows.shape[0], len(counts)),
            counts.most_common(1)[0][1] / rows.shape[0], moving, rows.shape[1], _available(subject), subject.lineage.latents,
            bool(((rows == 0) | (rows == 1)).all()), _picked_at(subject),
        )  # fmt: skip


def _keys(rows: Tensor) -> list[int]:
    values = rows.float().contiguous().numpy()
    return [hash(row.tobytes()) for row in values]


def estimated(rows: int, distinct: int) -> float:
    """N for which `rows` draws show `distinct` different ones: N (1 - exp(-rows / N)) = distinct."""
    if distinct >= rows:
        return math.inf
    low, high = float(distinct), float(distinct)
    while high * -math.expm1(-rows / high) < distinct:
        high *= 2
        if high > 1e12:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * -math.expm1(-rows / middle) < distinct else (low, middle)
    return high


def _available(subject: Any) -> int:
    """Rows of the tensor the batch was picked from, or the length of the DataLoader's data set. Of classes, which come in the same
    order more than once by nature, different rows; 0 where these cannot be counted.
    """
    deps, slot = subject.deps, subject.lineage.data
    shape, classes = subject.tape.slots[slot].shape, not subject.tape.slots[slot].dtype.is_floating_point
    largest = 0 if classes else subject.examples
    while (position := deps.producer.get(slot)) is not None:
        reads = [r for r in subject.tape.ops[position].reads if r not in deps.parametric]
        if not reads:
            break
        slot = max(reads, key=lambda s: subject.tape.slots[s].numel)
        source, value = subject.tape.slots[slot].shape, subject.tape.slots[slot].value
        if source and source[1:] == shape[1:] and not classes:
            largest = max(largest, source[0])
        elif source and source[1:] == shape[1:] and value is not None and source[0] <= MOST_ROWS:
            largest = max(largest, len(set(_keys(value.detach().reshape(len(value), -1)))))
    return int(largest)


def _picked_at(subject: Any) -> Where | None:
    """The line that made the batch; where it came from outside, the first that uses it."""
    deps, slot = subject.deps, subject.lineage.data
    position = deps.producer.get(slot)
    made = subject.tape.ops[position].place if position is not None else None
    used = next((op.place for op in subject.tape.ops if slot in op.reads and op.place), None)
    place = made or used
    return Where(*place) if place else None
