"""A script that stopped within its first forward pass: what it had shown its model until then."""

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
    """What an examination may look at where nothing was trained: `data`, [n, ...], as the script was given it, and what its
    first parametrised function read (`entering`).
    """

    data: Tensor
    entering: Tensor
    at: Place | None
    script: str
    cost: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, recorder: Recorder | None, script: str, seconds: float) -> Self | None:
        """None where nothing that could be data came to a parametrised function."""
        if recorder is None or recorder.overflow:
            return None
        tape, deps = recorder.tape, Dependencies(recorder.tape)
        fresh = set(fresh_slots(tape))
        first = next((op for op in tape.ops if deps.is_layer(op)), None)
        came = [r for r in first.reads if r not in deps.parametric] if first is not None else []
        data = [s for s in sorted(deps.ancestors(came) & fresh) if _of_numbers(tape.slots[s].value)]
        entering = _value(tape, came[0]) if came else None
        if not data or entering is None or first is None:
            return None
        value = tape.slots[data[0]].value
        assert value is not None  # noqa: S101 - it was asked
        cost = {"training_s": seconds, "watching_s": 0.0}
        return cls(value.detach(), entering, _place(tape, data[0], first), script, cost)

    def facts(self) -> dict[str, Any]:
        return {
            "script": self.script, "model": "not known: its first forward pass came to no end", "posterior": "not seen",
            "steps": 0, "data": {"shape": list(self.data.shape[1:])},
        }  # fmt: skip

    def limits(self) -> list[str]:
        return []


def _of_numbers(value: Tensor | None) -> bool:
    return value is not None and value.is_floating_point() and value.dim() > 1


def _value(tape: Tape, slot: int) -> Tensor | None:
    try:
        with torch.no_grad():
            return Replay(tape).run([slot])[slot].double()
    except ReplayFailed:
        return None


def _place(tape: Tape, slot: int, otherwise: Op) -> Place | None:
    return next((op.place for op in tape.ops if slot in op.reads and op.place), otherwise.place)
