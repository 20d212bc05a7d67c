"""What the decoder can put out, against what the data needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import target_rows
from whyvae.probes.objective import audited_likelihood
from whyvae.verdict import Where

ACTIVATIONS = {
    "sigmoid": (0.0, 1.0), "sigmoid_": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "tanh_": (-1.0, 1.0),
    "relu": (0.0, math.inf), "relu_": (0.0, math.inf), "relu6": (0.0, 6.0), "softplus": (0.0, math.inf),
    "softmax": (0.0, 1.0), "hardtanh": (-1.0, 1.0), "elu": (-1.0, math.inf), "softsign": (-1.0, 1.0),
    "exp": (0.0, math.inf), "log_softmax": (-math.inf, 0.0), "abs": (0.0, math.inf), "sin": (-1.0, 1.0),
    "leaky_relu": (-math.inf, math.inf), "gelu": (-0.17, math.inf), "silu": (-0.279, math.inf), "square": (0.0, math.inf),
}  # fmt: skip

NORMS = {"batch_norm", "layer_norm", "group_norm"}
LOGITS = {"bernoulli logits", "continuous bernoulli logits", "categorical", "multinomial"}
STATIONARY = 0.05  # of the gradient one standard deviation away: that of a logit or a logarithm is of one size there
SELDOM = 0.1  # share of numbers that are pushed up while the others are pushed down


@dataclass(frozen=True)
class OutputActivation(Probe):
    """The activations after the decoder's last parametrised function, and the range they leave for its output."""

    activations: tuple[str, ...]
    low: float
    high: float
    own_low: float  # range of the last activation, were it alone
    own_high: float
    at: Where | None
    logged: bool = False  # a logarithm is taken behind the last of them

    @classmethod
    def measure(cls, subject: Any) -> Self:
        audited_likelihood(subject)  # settles which of the tensors that meet the data is the output
        if subject.lineage.output < 0:
            raise CannotMeasure("the output was not found")
        chain, low, high, logged, _ = _after_last_layer(subject)
        own = ACTIVATIONS.get(chain[-1][0], (-math.inf, math.inf)) if chain else (-math.inf, math.inf)
        return cls(tuple(name for name, _ in chain), low, high, *own, chain[-1][1] if chain else None, logged)


@dataclass(frozen=True)
class LastLayer(Probe):
    """What the decoder's last parametrised function has to put out for the data: its root mean square, where no more than a
    factor and a shift follow (`127.5 + 127.5 * y`); NaN where an activation with two ends does (`255 * sigmoid(y)`), of which
    every value is within the reach of numbers of size 1.
    """

    rms: float

    @classmethod
    def measure(cls, subject: Any) -> Self:
        audited_likelihood(subject)
        if subject.lineage.output < 0 or subject.lineage.target is None:
            raise CannotMeasure("the output was not found")
        chain, _, _, _, slot = _after_last_layer(subject)
        if any(all(math.isfinite(end) for end in ACTIVATIONS.get(name, (-math.inf,))) for name, _ in chain):
            return cls(math.nan)
        if chain or slot == subject.lineage.output:
            raise CannotMeasure("what follows the last layer is no factor and shift")
        return cls(_undone(subject, slot))


def _undone(subject: Any, slot: int) -> float:
    """Root mean square of what `slot` has to be for the output to be the target."""
    replay, target = subject.replay, subject.lineage.target
    shift, scale = affine(subject, slot)
    with torch.no_grad():
        wanted = replay.run([target])[target].double()
    if wanted.numel() != scale.numel():
        raise CannotMeasure("output and target have different sizes")
    return float(((wanted.reshape(scale.shape) - shift) / scale).square().mean().sqrt())


def affine(subject: Any, slot: int) -> tuple[Tensor, Tensor]:
    """(shift, scale) in the shape of the output, which is shift + scale * `slot`.

    Raises:
        CannotMeasure: it is not.
    """
    replay, output, shape = subject.replay, subject.lineage.output, subject.tape.slots[slot].shape
    with torch.no_grad():
        at0, at1, at2 = (
            replay.run([output], feed={slot: torch.full(shape, v, dtype=torch.float64)})[output]
            for v in (0.0, 1.0, 2.0)
        )
    scale = at1 - at0
    if tuple(scale.shape) != tuple(shape) or not torch.allclose(at2 - at1, scale) or not bool((scale != 0).all()):
        raise CannotMeasure("what follows the last layer is no factor and shift")
    return at0, scale


def before_arithmetic(subject: Any) -> int:
    """The slot from which only arithmetic leads to the output: of the last layer, or of the last activation behind it."""
    deps, tape, slot = subject.deps, subject.tape, subject.lineage.output
    decoded = deps.descendants([subject.lineage.z])
    while (position := deps.producer.get(slot)) is not None:
        op = tape.ops[position]
        sources = [r for r in op.reads if r in decoded]
        if deps.is_mixing(op) or op.name in NORMS or op.name in ACTIVATIONS or op.name in _CLAMPS or len(sources) != 1:
            break
        slot = sources[0]
    return int(slot)


@dataclass(frozen=True)
class OutputRange(Probe):
    """How much of the data the output cannot reach, whatever the weights.

    `unreachable` is sum_j dist(x_j, range)^2 per example: an exact lower bound on the squared error.
    """

    activation: str  # "" where the output is a plain parametrised function
    low: float
    high: float
    unreachable: float
    outside: float  # share of the data's numbers outside the range
    variance: float  # of one example, summed over its numbers
    data_low: float
    data_high: float
    at: Where | None
    rare: float = 0.0  # share of the counts whose mean is below the smallest rate that log rates in range stand for

    @classmethod
    def measure(cls, subject: Any, output: OutputActivation) -> Self:
        likelihood = audited_likelihood(subject)
        low, high = output.low, output.high
        if low == -math.inf and high <= 0:
            raise CannotMeasure("does not apply: what meets the data is a logarithm, which belongs to the loss")
        if likelihood is not None and likelihood.family.startswith("density") and not in_units_of_data(subject):
            raise CannotMeasure("does not apply: the output is a parameter of a density, in units of its own")
        if likelihood is not None and likelihood.family in LOGITS:
            low, high = 0.0, 1.0  # what the likelihood itself makes of the output
        targets = target_rows(subject)
        miss = (low - targets).clamp_min(0) + (targets - high).clamp_min(0)
        name = output.activations[-1] if output.activations else ""
        return cls(
            name, low, high, float(miss.square().sum(1).mean()), float((miss > 1e-6).double().mean()),
            float(targets.var(0, correction=0).sum()), float(targets.min()), float(targets.max()), output.at,
            float((targets.mean(0) < math.exp(min(output.low, 700.0))).double().mean()) if _log_rates(likelihood) else 0.0,
        )  # fmt: skip


def _log_rates(likelihood: Any) -> bool:
    return likelihood is not None and likelihood.family == "poisson"


def in_units_of_data(subject: Any) -> bool:
    """Is the best output for a number that number itself (a mean, a median), and not its logarithm, a logit or a rate?"""
    lineage, replay = subject.lineage, subject.replay
    with torch.no_grad():
        target = replay.run([lineage.target])[lineage.target].double()
    shape = subject.tape.slots[lineage.output].shape
    if target.numel() != torch.Size(shape).numel():
        return False
    target = target.reshape(shape)

    def slope(output: torch.Tensor) -> torch.Tensor:
        leaf = output.clone().requires_grad_()
        loss = torch.stack(
            [v.sum() for v in replay.run(subject.tape.roots, feed={lineage.output: leaf}).values()]
        ).sum()
        return torch.autograd.grad(loss, leaf)[0].abs()

    here, beside = slope(target), slope(target + target.std())
    # at the ends, and at 0, where counts begin, the best may be a corner, or lie beyond
    ends = (target == 0) | (target == target.min()) | (target == target.max())
    inner = ~ends & here.isfinite() & beside.isfinite()
    return bool(inner.any()) and float(here[inner].median()) <= STATIONARY * float(beside[inner].median())


def _after_last_layer(subject: Any) -> tuple[list[tuple[str, Where | None]], float, float, bool, int]:
    """Activations from the decoder's last parametrised function to the output, the range they leave, whether a logarithm
    follows, and the slot that enters them.

    The range is followed through the arithmetic after them (`* 255`, `+ 1`) by pushing the ends through the tape.
    """
    deps, tape, slot = subject.deps, subject.tape, subject.lineage.output
    chain: list[tuple[str, Where | None]] = []
    steps, decoded = [], deps.descendants([subject.lineage.z])
    while (position := deps.producer.get(slot)) is not None:
        op = tape.ops[position]
        if deps.is_mixing(op) or op.name in NORMS:
            break
        sources = [r for r in op.reads if r in decoded] or [r for r in op.reads if r not in deps.parametric]
        if not sources:
            break
        steps.append(op)
        if op.name in ACTIVATIONS or op.name in _CLAMPS:
            chain.insert(0, (op.name, Where(*op.place) if op.place else None))
        slot = sources[0]
    low, high = _pushed(subject, slot)
    behind = list(takewhile(lambda op: op.name not in ACTIVATIONS and op.name not in _CLAMPS, steps))
    free = _free_beside(subject, slot)
    joined = [op for op in behind if not free.isdisjoint(op.reads)]
    if joined:  # a learned scale, a library size: no wall
        low = 0.0 if low >= 0 and all(op.name in _SCALING for op in joined) else -math.inf
        high = math.inf
    return chain, low, high, any(op.name.rstrip("_") in _LOGARITHMS for op in behind), slot


_LOGARITHMS = {"log", "log2", "log10", "log1p"}

_CLAMPS = {"clamp", "clamp_", "clip"}
_SCALING = {"mul", "mul_", "__mul__", "__rmul__", "div", "div_", "__truediv__", "multiply", "true_divide"}


def _free_beside(subject: Any, slot: int) -> set[int]:
    """What parameters, or numbers that differ from step to step, make by another way than through `slot`."""
    deps, feeds = subject.deps, subject.train
    brought = {s for feed in feeds for s, v in feed.items() if s in feeds[0] and not torch.equal(v, feeds[0][s])}
    sources = brought | {s.index for s in subject.tape.slots if s.trainable}
    made: set[int] = (deps.descendants(sources) | sources) - deps.descendants([slot]) - {slot}
    return made


def _pushed(subject: Any, slot: int) -> tuple[float, float]:
    """Range of the output when what enters the last activations is pushed to its ends."""
    replay, output = subject.replay, subject.lineage.output
    shape = subject.tape.slots[slot].shape
    ends: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        seldom = torch.rand(shape, generator=generator) < SELDOM
        # what is made of two numbers (an angle of its sine and cosine) wants all pairs of them
        for size in (1.0, 30.0, 1e4):
            entering = size * torch.randn(shape, generator=generator, dtype=torch.float64)
            ends.append(replay.run([output], feed={slot: entering})[output])
        for push in (-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4):
            alike = torch.full(shape, push, dtype=torch.float64)
            for entering in (torch.where(seldom, alike, -alike), alike):  # a softmax of equal numbers says nothing
                ends.append(replay.run([output], feed={slot: entering})[output])
    if any(bool(e.isnan().any()) for e in ends):
        raise CannotMeasure("the range of the output could not be told: numbers pushed through its end come out as NaN")
    low, high = (min(float(e.min()) for e in ends), max(float(e.max()) for e in ends))
    return (-math.inf if low < -999 else low), (math.inf if high > 999 and _grows(ends) else high)


def _grows(ends: list[torch.Tensor]) -> bool:
    """Is the last push still moving the output (no wall)?"""
    return float(ends[-1].max()) > 1.5 * float(ends[-3].max())  # the same pattern, pushed less
