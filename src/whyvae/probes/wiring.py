"""Which parameters learn: who gets a gradient, who gets a step, and whose gradients are left over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.cut import gradient, head_values
from whyvae.probe import Probe
from whyvae.verdict import Where
from whyvae.watch.draws import small_parameters
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import Replay, ReplayFailed

FEWEST = 64  # numbers of a weight that tell what it was drawn from
ERRORS = 5  # standard ones


@dataclass(frozen=True)
class Wiring(Probe):
    """Parameters of encoder and decoder by name. `stale`: norm of the gradients left over from before a step, as a
    share of the norm after its backward (median over recorded steps; NaN if never seen). `frozen`: all of encoder or decoder,
    where it was given to an optimiser, asks for no gradient and is untrained.
    """

    unstepped: tuple[str, ...]  # have a gradient, no optimiser steps them, and they did not change
    unstepped_share: float  # of all numbers in encoder and decoder
    without_gradient: tuple[str, ...]  # stepped, but the loss does not reach them
    without_gradient_share: float
    parameters: int
    stale: float
    stale_steps: int
    optimizers: tuple[str, ...]
    reconstruction_reaches_encoder: bool
    output_depends_on_latent: float  # slope of the output in the heads, `detach` ignored
    latent_at: Where | None
    backward_at: Where | None
    step_at: Where | None
    frozen: tuple[str, ...] = ()
    frozen_share: float = 0.0

    @classmethod
    def measure(cls, subject: Any) -> Self:
        slots = _model_slots(subject)
        total = sum(s.numel for s in slots) or 1
        stepped = frozenset().union(*(o.parameters for o in subject.optimizers)) if subject.optimizers else None
        moved = moved_parameters(subject)
        told = stepped is not None or len(subject.steps) > 1  # of a single backward nobody knows what was to follow
        unstepped = [
            s for s in slots
            if told and (stepped is None or id(s.value) not in stepped) and moved.get(id(s.value)) is False
        ]  # fmt: skip
        idle = _without_gradient(subject, slots, stepped)
        frozen = _frozen(subject)
        stale = sorted(
            s.stale for s in subject.steps if s.index > 0 and not math.isnan(s.stale)
        )  # the first has nothing to leave
        reaches, at_z = _reaches(subject)
        place = (
            subject.tape.ops[subject.deps.producer[subject.lineage.z]].place
            if subject.lineage.z in subject.deps.producer
            else None
        )
        return cls(
            _names(subject, unstepped), sum(s.numel for s in unstepped) / total, _names(subject, idle),
            sum(s.numel for s in idle) / total, total, _typical(stale, by_hand=not subject.optimizers), len(stale),
            tuple(o.name for o in subject.optimizers), reaches, at_z, Where(*place) if place else None,
            _where(subject.main.backward_at), _where(next((o.stepped_at for o in subject.optimizers), None)),
            _names(subject, frozen), sum(s.numel for s in frozen) / (total + sum(s.numel for s in frozen)),
        )  # fmt: skip


def _frozen(subject: Any) -> list[Any]:
    """Of a pretrained part, the weights are not those that torch draws for a new one. What is written to in place (an average
    of weights) is on the tape as a copy.
    """
    deps, lineage = subject.deps, subject.lineage
    given = [p.detach() for o in subject.optimizers for p in o.alive if not p.requires_grad]

    def idle(slot: Any) -> bool:
        return not slot.trainable and any(p.shape == slot.shape and torch.equal(p, slot.value.detach()) for p in given)

    found = []
    for above in (deps.ancestors([lineage.output], stop={lineage.z}), deps.ancestors(lineage.heads)):
        part = [
            s for s in subject.tape.slots if s.index in above and (s.parameter or s.trainable) and s.value is not None
        ]
        weights = [s.value for s in part if len(s.shape) > 1]
        if given and weights and all(map(idle, part)) and all(map(at_start, weights)):
            found += part
    return found


def at_start(weight: Tensor) -> bool:
    """Is it as torch draws the weights of a new layer: from U(-b, b), b = 1 / sqrt(fan in)? Few numbers do not tell."""
    values = weight.detach().double().flatten()
    bound = (values.numel() / weight.shape[0]) ** -0.5
    if values.numel() < FEWEST or float(values.abs().max()) > bound * (1 + 1e-6):
        return False
    off = float(values.std()) / (bound / math.sqrt(3)) - 1
    return bool(abs(off) < ERRORS * math.sqrt(0.2 / values.numel()))  # standard error of the deviation of a uniform law


def _model_slots(subject: Any) -> list[Any]:
    """Parameters that the output is made from: encoder and decoder, not a critic or a perceptual network."""
    above = subject.deps.ancestors([subject.lineage.output])
    return [s for s in subject.tape.slots if s.index in above and s.trainable and s.value is not None]


def moved_parameters(subject: Any) -> dict[int, bool]:
    """Id of a parameter -> did it change since the first recorded step that kept it?"""
    found: dict[int, bool] = {}
    for step in subject.steps:
        for index, before in step.parameters.items():
            live = step.tape.slots[index].value
            if live is not None and id(live) not in found:
                found[id(live)] = not torch.equal(live.detach(), before)
    return found


def _without_gradient(subject: Any, slots: list[Any], stepped: frozenset[int] | None) -> list[Any]:
    late = [s.without_gradient for s in subject.steps[1:] if s.without_gradient is not None]
    if not late or stepped is None:
        return []
    always = frozenset.intersection(*late)
    idle = [s for s in slots if id(s.value) in always and id(s.value) in stepped]
    return [s for s in idle if not connected(subject, s)] if idle else []


def connected(subject: Any, slot: Any) -> bool:
    """Has the loss a way to this parameter? Its gradient is then 0 because units are dead, which is no wiring."""
    replay = subject.replay
    try:
        loss = sum(value.sum() for value in replay.run(subject.tape.roots).values())
    except ReplayFailed:
        return False
    (found,) = torch.autograd.grad(loss, [replay.parameters[slot.index]], allow_unused=True)
    return found is not None


def _names(subject: Any, slots: list[Any]) -> tuple[str, ...]:
    return tuple(
        subject.names[id(s.value)].name if id(s.value) in subject.names else f"a parameter of shape {list(s.shape)}"
        for s in slots
    )


def _reaches(subject: Any) -> tuple[bool, float]:
    """(Has the output a gradient to the heads?, slope of its dependence on them, gradients or not).

    A decoder whose units died shows neither: then at random parameters, wired alike.
    """
    lineage = subject.lineage
    if not lineage.heads or lineage.output < 0:
        return True, math.nan
    found = _slopes(lineage, subject.replay)
    if found[1] == 0:
        found = _slopes(lineage, Replay(subject.tape, small_parameters(subject.tape)))
    return found


def _slopes(lineage: Lineage, replay: Replay) -> tuple[bool, float]:
    try:
        heads = [v.requires_grad_() for v in head_values(lineage, replay)]
        fed = dict(zip(lineage.heads, heads, strict=True))
        by_value, by_gradient = (
            _slope(replay.run([lineage.output], feed=fed, attached=on)[lineage.output], heads) for on in (True, False)
        )
    except ReplayFailed:
        return True, math.nan
    return by_gradient != 0, by_value  # NaN, in a run that broke, has come through


def _slope(output: Tensor, heads: list[Tensor]) -> float:
    generator = torch.Generator().manual_seed(17)
    dice = torch.rand(output.shape, generator=generator, dtype=torch.float64)
    return float(gradient((output * dice).sum(), heads).norm())


def _typical(stale: list[float], *, by_hand: bool) -> float:
    """The median; the smallest where parameters are stepped by hand (steps and accumulation look alike there)."""
    if not stale:
        return math.nan
    return stale[0] if by_hand else stale[len(stale) // 2]


def _where(place: Any) -> Where | None:
    return Where(*place) if place else None
