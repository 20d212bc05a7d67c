"""What more latents would gain, beside what larger parts would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from whyvae.probe import Probe
from whyvae.probes.latents import LatentUsage
from whyvae.probes.missed import MissedDirections
from whyvae.probes.wider import WiderBlocks
from whyvae.verdict import Where


@dataclass(frozen=True)
class MoreLatents(Probe):
    """`missed`: what `missed.added` more units would carry. `wider`: what larger parts gain instead, as a share of `rate`."""

    missed: MissedDirections
    rate: float
    wider: float
    units: int
    active: int
    at: Where | None  # the line that makes the heads

    @classmethod
    def measure(cls, subject: Any, usage: LatentUsage, missed: MissedDirections, wider: WiderBlocks) -> Self:
        share = wider.own.total / max(wider.rate, 1e-9)
        return cls(missed, usage.rate, share, usage.units, usage.active, _place(subject))


def _place(subject: Any) -> Where | None:
    position = subject.deps.producer.get(subject.lineage.heads[0]) if subject.lineage.heads else None
    place = subject.tape.ops[position].place if position is not None else None
    return Where(*place) if place else None
