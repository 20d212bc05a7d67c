"""The narrowest place between the data and the heads, and between z and the output, read off the tape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from whyvae.probe import CannotMeasure, OnDemand, Probe
from whyvae.probes.latents import LatentUsage
from whyvae.verdict import Where
from whyvae.watch.tape import Op

EMPTY = math.log(2)  # nats, one bit: a code with less is all but empty, and how many units it uses says nothing


@dataclass(frozen=True)
class Widths(Probe):
    """Numbers that the narrowest hidden layer of each part makes of one example; 0 where no layer is hidden.

    `.._at`: the line that calls this layer, or the part's only layer.
    """

    encoder: int
    encoder_at: Where | None
    decoder: int
    decoder_at: Where | None
    latents: int
    features: int = 0  # numbers in an output
    active: int = 0  # latents that carry something, as far as that is known

    def roomy(self, part: str) -> bool:
        """Has no hidden layer of the part less than twice as many units as there are latents, or half as many as an example
        has numbers?
        """
        return bool(getattr(self, part) >= max(2 * self.latents, self.features / 2, 1))

    def tight(self, part: str) -> bool:
        """Has some hidden layer of the part less than twice as many units as there are latents that carry something? A part
        without any was meant to be linear.
        """
        return bool(0 < getattr(self, part) < 2 * (self.active or self.latents))

    def choked(self, part: str) -> bool:
        """Has some hidden layer of the part no more units than there are latents that carry something?"""
        return bool(0 < getattr(self, part) <= (self.active or self.latents))

    @classmethod
    def measure(cls, subject: Any, usage: OnDemand[LatentUsage]) -> Self:
        deps, lineage = subject.deps, subject.lineage
        if lineage.output < 0 or not lineage.heads:
            raise CannotMeasure("the encoder's and the decoder's layers were not found")
        start = [lineage.data] if lineage.data >= 0 else []
        seen = deps.descendants(start) if start else set(range(len(subject.tape.slots)))
        encoder = _narrowest(subject, seen & deps.ancestors(lineage.heads))
        decoder = _narrowest(subject, deps.descendants([lineage.z]) & deps.ancestors([lineage.output]))
        features = subject.tape.slots[lineage.output].numel // max(1, subject.batch)
        used = usage()
        active = used.active if used is not None and used.rate > EMPTY else 0
        return cls(*encoder, *decoder, lineage.latents, features, active)


def said(width: int, part: str) -> str:
    """`width` in words, for a summary."""
    if width == 0:
        return f"the {part} has no hidden layer"
    return f"the narrowest layer of the {part} makes {width} number{'s' if width > 1 else ''} of an example"


def _narrowest(subject: Any, between: set[int]) -> tuple[int, Where | None]:
    """(numbers per example, line) of the narrowest layer among those that another layer follows."""
    deps, tape = subject.deps, subject.tape
    layers = [
        op for op in tape.ops
        if deps.is_layer(op) and not between.isdisjoint(op.outs)
    ]  # fmt: skip
    read = {r for op in layers for r in op.reads}
    hidden = [op for op in layers if _followed(subject, op, read)]
    batch = max(1, subject.batch)
    sizes = [(_made(subject, op, between) // batch, op) for op in hidden]
    if not sizes:
        return 0, _place(layers[0]) if layers else None
    width, op = min(sizes, key=lambda pair: pair[0])
    return max(1, width), _place(op)


def _followed(subject: Any, op: Op, read: set[int]) -> bool:
    return not subject.deps.descendants(op.outs).isdisjoint(read)


def _made(subject: Any, op: Op, between: set[int]) -> int:
    """Numbers that go on from `op` (a recurrent layer also makes some that do not)."""
    return min(int(subject.tape.slots[o].numel) for o in op.outs if o in between)


def _place(op: Op) -> Where | None:
    return Where(*op.place) if op.place else None
