"""Hidden units: which of them move for no example at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from whyvae.audit.cut import noise_like
from whyvae.probe import CannotMeasure, Probe
from whyvae.verdict import Where
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.tape import Op

MOST = 512  # examples
FEWEST = 30  # examples: below, a unit that fires for one in ten may be missed
FLAT = 1e-3  # slope of an activation below which a unit passes nothing on, neither values nor gradients


Part = Literal["encoder", "decoder"]
Slope = Callable[[Tensor], Tensor]
Hidden = tuple[Op, Part, Slope]  # an activation, the part it stands in, its slope from what it gave


def _positive(y: Tensor) -> Tensor:
    return (y > 0).double()


# name of an activation -> its slope, from what it gave
SLOPES: dict[str, Slope] = {
    "relu": _positive,
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y**2,
    "softsign": lambda y: (1 - y.abs()) ** 2,
    "softplus": lambda y: 1 - (-y).exp(),
    "elu": lambda y: 1 + y.clamp(-1, 0),
    "celu": lambda y: 1 + y.clamp(-1, 0),
    "selu": lambda y: y + 1.7580993408473766,  # scale * alpha of Klambauer et al. 2017
    "gelu": lambda y: y.abs(),  # slope and value vanish together, far below 0
    "silu": lambda y: y.abs(),
    "mish": lambda y: y.abs(),
    "hardswish": lambda y: y.abs(),
}
# name of a function that cuts at two ends -> where its lower end stands by default, and its upper one
CUTS = {
    "relu6": (0.0, 6.0), "hardsigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0), "clamp": (None, None), "clip": (None, None),
    "clamp_min": (None, None),
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """The units (channels) that one hidden activation gives, over all examples and positions."""

    part: Part
    activation: str
    units: int
    dead: int  # slope below FLAT for every example
    positions: int  # numbers of one unit in one example: pixels of a channel, steps of a sequence
    at: Where | None

    @property
    def share(self) -> float:
        return self.dead / self.units

    @property
    def made(self) -> int:
        """Numbers of one example."""
        return self.units * self.positions

    @property
    def alive(self) -> int:
        """Numbers of one example that can move."""
        return (self.units - self.dead) * self.positions


@dataclass(frozen=True)
class HiddenUnits(Probe):
    """Hidden activations of encoder and decoder, in evaluation mode, z drawn from q(z|x).

    A unit seen dead on all n examples fires for less than 3/n of them (95 %: (1 - 3/n)^n = exp(-3)).
    """

    layers: tuple[Layer, ...]
    examples: int
    latents: int

    @property
    def bound(self) -> float:
        return 3 / self.examples

    @classmethod
    def measure(cls, subject: Any) -> Self:
        if subject.broken:
            raise CannotMeasure("explained by TRN01: the trained parameters are no numbers to measure at")
        hidden = hidden_activations(subject)
        if not hidden:
            raise CannotMeasure("does not apply: no hidden activation that could die was seen")
        alive, examples = _alive(subject, hidden)
        if examples < FEWEST:
            raise CannotMeasure(f"needs {FEWEST} examples to call a unit dead, got {examples}")
        layers = tuple(_layer(subject, op, part, mask) for (op, part, _), mask in zip(hidden, alive, strict=True))
        return cls(layers, examples, subject.lineage.latents)


def _layer(subject: Any, op: Op, part: Part, alive: Tensor) -> Layer:
    size = subject.tape.slots[(op.outs or op.writes)[0]].numel
    units, at = alive.numel(), Where(*op.place) if op.place else None
    positions = max(1, size // max(1, subject.batch) // units)
    return Layer(part, op.name.rstrip("_"), units, int((~alive).sum()), positions, at)


def hidden_activations(subject: Any) -> list[Hidden]:
    """In order: those between two parametrised functions, neither heads' nor output's."""
    deps, lineage = subject.deps, subject.lineage
    encoder = deps.ancestors(lineage.heads)
    decoder = deps.descendants([lineage.z]) & deps.ancestors([lineage.output]) if lineage.output >= 0 else set()
    layers = [op for op in subject.tape.ops if deps.is_mixing(op) and decoder.intersection(op.outs)]
    before_a_layer = deps.ancestors([r for op in layers for r in op.reads])
    found: list[Hidden] = []
    for op in subject.tape.ops:
        made = {*op.outs, *op.writes}
        slope = _slope(op)
        if slope is None or deps.encoded.isdisjoint(op.reads):
            continue
        if made & decoder & before_a_layer:
            found.append((op, "decoder", slope))
        elif made & encoder:
            found.append((op, "encoder", slope))
    return found


def _slope(op: Op) -> Slope | None:
    """None where this is no activation: a clamp to other ends than an activation's."""
    name = op.name.rstrip("_")
    if name not in CUTS:
        return SLOPES.get(name)
    low, high = (_end(op, i, default) for i, default in enumerate(CUTS[name], 1))
    if low not in {0.0, -1.0}:
        return None
    return lambda y: ((y > low) & (y < high)).double()


def _end(op: Op, position: int, default: float | None) -> float:
    """The lower (1) or upper (2) end of a cut; infinite where there is none, NaN where it is a tensor."""
    infinite = math.inf if position == 2 else -math.inf
    names = (("min", "min_val"), ("max", "max_val"))[position - 1]
    given = (
        op.args[position] if len(op.args) > position else next((op.kwargs[n] for n in names if n in op.kwargs), default)
    )
    if given is None:
        return infinite
    return float(given) if isinstance(given, int | float) else math.nan


def _alive(subject: Any, hidden: list[Hidden]) -> tuple[list[Tensor], int]:
    """For each activation a mask [units]: does any example move it? And the number of examples."""
    lineage, slots = subject.lineage, [(op.outs or op.writes)[0] for op, _, _ in hidden]
    seen: list[Tensor] = []
    examples = 0
    for i, feed in enumerate((subject.train or [{}])[::-1]):
        fed = {**feed, lineage.eps: noise_like(lineage, i)} if lineage.eps >= 0 else dict(feed)
        with torch.no_grad():
            values = subject.replay.run(slots, feed=fed, training=False)
        now = [
            _any(slope(values[slot].double()) > FLAT, 1 if _convolved(subject, op) else -1)
            for (op, _, slope), slot in zip(hidden, slots, strict=True)
        ]
        seen = [a | b for a, b in zip(seen, now, strict=True)] if seen else now
        examples += subject.batch
        if examples >= MOST:
            break
    return seen, examples


def _any(mask: Tensor, axis: int) -> Tensor:
    """Is there one along all axes but `axis`? [units]"""
    result: Tensor = mask.movedim(axis, 0).flatten(1).any(1) if mask.dim() > 1 else mask
    return result


def _convolved(subject: Any, op: Op) -> bool:
    """Does the nearest parametrised function above keep its channels in axis 1?"""
    deps: Dependencies = subject.deps
    slot = op.reads[0] if op.reads else -1
    while (position := deps.producer.get(slot)) is not None:
        above = deps.tape.ops[position]
        if deps.is_mixing(above) or not above.reads:
            return above.name.startswith("conv")
        slot = above.reads[0]
    return False
