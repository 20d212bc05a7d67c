"""Are several layers of a part one linear map, because nothing between them bends?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op

# Of the largest difference that the two ends make: a replay in float64 rounds a thousand million times finer
SAME = 1e-6


@dataclass(frozen=True)
class Straight(Probe):
    """Layers of the encoder and of the decoder that together are an affine map of what enters; 0 where they bend, or where
    there is one layer only. Dropout is off and batch norm has its running statistics.

    A map is affine along a line if it takes the middle of two points to the middle of their images.
    """

    encoder: int
    decoder: int

    @classmethod
    def measure(cls, subject: Any) -> Self:
        lineage = subject.lineage
        if lineage.output < 0 or not lineage.heads or lineage.data < 0:
            raise CannotMeasure("the encoder's and the decoder's layers were not found")
        if not subject.tape.slots[lineage.data].dtype.is_floating_point:
            return cls(0, _layers(subject, lineage.z, [lineage.output]))
        return cls(
            _layers(subject, lineage.data, lineage.heads[:1]), _layers(subject, lineage.z, [lineage.output])
        )  # fmt: skip


def _layers(subject: Any, start: int, ends: list[int]) -> int:
    """Layers between `start` and the last one before `ends`, if they are one affine map; else 0."""
    deps = subject.deps
    between = deps.descendants([start]) & deps.ancestors(ends)
    layers: list[Op] = [op for op in subject.tape.ops if deps.is_layer(op) and not between.isdisjoint(op.outs)]
    if len(layers) < 2:
        return 0
    last = next(o for o in layers[-1].outs if o in between)
    generator = torch.Generator().manual_seed(7)
    shape = subject.tape.slots[start].shape
    one, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    try:
        with torch.no_grad():
            first, second, middle = (_image(subject, start, last, point) for point in (one, other, 0.5 * (one + other)))
    except ReplayFailed as failed:
        raise CannotMeasure(str(failed)) from failed
    off = float((middle - 0.5 * (first + second)).abs().max())
    return len(layers) if off <= SAME * float((first - second).abs().max()) else 0


def _image(subject: Any, start: int, end: int, point: Tensor) -> Tensor:
    value: Tensor = subject.replay.run([end], feed={start: point}, training=False)[end].double()
    return value
