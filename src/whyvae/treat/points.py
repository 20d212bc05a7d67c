"""Where in a training step a tensor is made or read: found once on the tape, met again in every later step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.cut import head_values, posterior
from whyvae.watch.draws import SIDE_BY_SIDE
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op, Place

SAME = 1e-9  # relative: two slots that hold the same numbers


@dataclass(frozen=True, slots=True)
class Point:
    """A call: the `turn`-th of this function at this line in a step; of it the `position`-th tensor read or made."""

    name: str
    file: str
    line: int
    turn: int
    made: bool
    position: int

    @property
    def call(self) -> tuple[str, Place, int]:
        return self.name, Place(self.file, self.line), self.turn

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        return cls(**entry)


def point(subject: Any, slot: int) -> Point | None:
    """Where the slot is made; for one from outside, where it is first read. None where no line is known."""
    position = subject.deps.producer.get(slot)
    if position is not None:
        op = subject.tape.ops[position]
        made = (*op.outs, *op.writes)
        return _at(op, made.index(slot), made=True) if slot in made else None
    readers = subject.deps.readers.get(slot, [])
    for reader in readers:
        op = subject.tape.ops[reader]
        if op.grad and slot in op.reads:
            return _at(op, op.reads.index(slot), made=False)
    return None


def _at(op: Op, position: int, *, made: bool) -> Point | None:
    if op.place is None or not op.grad or op.name in _OURS_ALONE:
        return None
    return Point(op.name, op.place.file, op.place.line, op.turn, made, position)


_OURS_ALONE = {"normal_affine", "apply", SIDE_BY_SIDE}  # names that no call has at run time


@dataclass(frozen=True, slots=True)
class PosteriorPoints:
    """`spread_as`: what stands at `spread`: "sigma", "variance", "log variance" or "log sigma". `z`: None where it is
    made at no line of its own.
    """

    mu: Point
    spread: Point
    spread_as: str
    z: Point | None = None

    def to_dict(self) -> dict[str, Any]:
        z = None if self.z is None else self.z.to_dict()
        return {"mu": self.mu.to_dict(), "spread": self.spread.to_dict(), "spread_as": self.spread_as, "z": z}

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        z = None if entry["z"] is None else Point.of(entry["z"])
        return cls(Point.of(entry["mu"]), Point.of(entry["spread"]), entry["spread_as"], z)


def sigma_of(value: Tensor, spread_as: str) -> Tensor:
    return _AS_SIGMA[spread_as](value)


_AS_SIGMA: dict[str, Callable[[Tensor], Tensor]] = {
    "sigma": lambda v: v,
    "log variance": lambda v: (0.5 * v).exp(),
    "variance": lambda v: v.sqrt(),
    "log sigma": lambda v: v.exp(),
}


def posterior_points(subject: Any) -> PosteriorPoints | None:
    """Where mu and sigma of the sampled z stand, told by their values; None where they stand nowhere."""
    lineage, deps, replay = subject.lineage, subject.deps, subject.replay
    if lineage.eps < 0 or not lineage.heads:
        return None
    from_heads = deps.descendants(lineage.heads)
    noisy = deps.descendants([lineage.eps])
    slots = subject.tape.slots
    numel = slots[lineage.z].numel
    encoded = (from_heads - noisy) & deps.ancestors([lineage.z])
    candidates = [s for s in sorted(encoded) if slots[s].numel == numel and slots[s].requires_grad]
    try:
        with torch.no_grad():
            heads = head_values(lineage, replay)
            at = dict(zip(lineage.heads, heads, strict=True))
            values = replay.run(candidates, feed=at)
        with torch.enable_grad():
            mu, sigma = posterior(lineage, replay, [h.requires_grad_() for h in heads])
    except ReplayFailed:
        return None
    found = _first(subject, candidates, values, {"mu": lambda v: v}, mu)
    spread = _first(subject, candidates, values, _AS_SIGMA, sigma)
    if not found or not spread:
        return None
    return PosteriorPoints(found[0], spread[0], spread[1], point(subject, lineage.z))


def _first(
    subject: Any, candidates: list[int], values: dict[int, Tensor], forms: dict[str, Callable[[Tensor], Tensor]],
    wanted: Tensor,
) -> tuple[Point, str] | None:  # fmt: skip
    wanted = wanted.detach().flatten()
    for name, form in forms.items():
        for slot in reversed(candidates):
            value = form(values[slot].detach()).flatten()
            if torch.allclose(value, wanted, rtol=SAME, atol=1e-12) and (at := point(subject, slot)) is not None:
                return at, name
    return None


def meeting_points(subject: Any) -> tuple[Point, Point] | None:
    """Where output and target are read when they meet in the loss."""
    lineage = subject.lineage
    op = next((o for o in subject.tape.ops if o.index == lineage.meeting.op), None)
    if op is None or lineage.target is None or not {lineage.output, lineage.target} <= set(op.reads):
        return None
    output, target = (_at(op, op.reads.index(s), made=False) for s in (lineage.output, lineage.target))
    return (output, target) if output and target else None
