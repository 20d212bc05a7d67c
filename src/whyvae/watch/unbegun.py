"""A script that stopped within its first forward pass because data that are no numbers had come into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.watch.dependencies import Dependencies
from whyvae.watch.feeds import fresh_slots
from whyvae.watch.recorder import Recorder
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.tape import Op, Place, Tape


@dataclass
class Unbegun:
    """What an examination may look at where nothing was trained: `data`, [n, ...], as the script had it before its first
    parametrised function.
    """

    data: Tensor
    at: Place | None
    script: str
    cost: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, recorder: Recorder | None, script: str, seconds: float) -> Self | None:
        """None unless numbers that are none came to a parametrised function from the data."""
        if recorder is None or recorder.overflow:
            return None
        tape, deps = recorder.tape, Dependencies(recorder.tape)
        fresh = set(fresh_slots(tape))
        for op in tape.ops:
            if not (deps.is_mixing(op) and any(r in deps.parametric for r in op.reads)):
                continue
            came = [r for r in op.reads if r not in deps.parametric]
            bad = [s for s in sorted(deps.ancestors(came) & fresh) if not _numbers(tape.slots[s].value)]
            if bad and not all(map(_numbers, _values(tape, came))):  # nothing filled them in on the way
                data = tape.slots[bad[0]].value
                assert data is not None  # noqa: S101 - else its numbers would not be asked
                return cls(data.detach(), _place(tape, bad[0], op), script, {"training_s": seconds, "watching_s": 0.0})
            return None  # what comes later was made by the model
        return None

    def facts(self) -> dict[str, Any]:
        return {
            "script": self.script, "model": "not known: its first forward pass came to no end", "posterior": "not seen",
            "steps": 0, "data": {"shape": list(self.data.shape[1:])},
        }  # fmt: skip

    def limits(self) -> list[str]:
        return []


def _numbers(value: Tensor | None) -> bool:
    return value is None or not value.is_floating_point() or bool(torch.isfinite(value).all())


def _values(tape: Tape, slots: list[int]) -> list[Tensor]:
    try:
        with torch.no_grad():
            return list(Replay(tape).run(slots).values())
    except ReplayFailed:
        return []


def _place(tape: Tape, slot: int, otherwise: Op) -> Place | None:
    return next((op.place for op in tape.ops if slot in op.reads and op.place), otherwise.place)
