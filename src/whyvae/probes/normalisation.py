"""Batch norm in its two modes: what evaluation's running statistics lose against the statistics of the batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.cut import noise_like
from whyvae.probe import CannotMeasure, OnDemand, Probe
from whyvae.probes.data import feeds_looked_at
from whyvae.probes.reconstruction import reconstructions
from whyvae.probes.sampling_mode import MOVED, SamplingMode, moved_statistics
from whyvae.verdict import Where
from whyvae.watch.replay import NORMALISING, Replay
from whyvae.watch.tape import Op, Ref

Moments = dict[int, tuple[Tensor, Tensor]]  # index of an op -> (mean, variance) of each channel, [C]


@dataclass(frozen=True)
class Normalisation(Probe):
    """Squared errors per example as shares of the data's variance, same examples and noise, dropout off.

    `training`: each recorded batch normalised by its own statistics; `evaluation`: by the running ones as the run left
    them; `renewed`: by the mean statistics of the recorded batches at the final weights (no training).
    `drift`, of the layer where it is largest: KL in nats per channel between Gaussians with the batches' and with the
    running moments; `drift_then`: the same at the main recorded step, with the weights it had (NaN where not kept).
    """

    layers: int
    kind: str  # "batch_norm" or "instance_norm", of the layer with the largest drift
    training: float
    evaluation: float
    renewed: float
    drift: float
    drift_then: float
    momentum: float  # weight of the newest batch in the running statistics, at the main step
    cumulative: bool  # the momentum changes from step to step (`momentum=None`: an average over all steps)
    values: int  # numbers of one channel in a batch
    batch: int
    steps: int
    at: Where | None  # that layer

    @classmethod
    def measure(cls, subject: Any, mode: OnDemand[SamplingMode]) -> Self:
        ops = normalising(subject)
        if not ops:
            raise CannotMeasure(
                "does not apply: no layer normalises by the batch in training and by running statistics"
            )
        if moved_statistics(mode(), subject.count):
            raise CannotMeasure(MOVED)
        outputs, targets = reconstructions(subject, batch_statistics=True)
        total = max(float(targets.var(0, correction=0).sum()), 1e-300)
        seen = moments(subject, ops)
        drift = _drift(subject.replay, ops, seen)
        worst = max(ops, key=lambda op: drift[op.index])
        training = _error(outputs, targets) / total
        evaluation = _error(*reconstructions(subject)) / total
        renewed = _error(*reconstructions(subject, statistics=_renewed(ops, seen))) / total
        then = _drift_then(subject, ops)
        return cls(
            len(ops), worst.name, training, evaluation, renewed, drift[worst.index], then.get(worst.index, math.nan),
            float(argument(worst, 6, "momentum")), _cumulative(subject, worst),
            subject.tape.slots[worst.reads[0]].numel // seen[worst.index][0].numel(), subject.batch, subject.count,
            Where(*worst.place) if worst.place else None,
        )  # fmt: skip


def normalising(subject: Any) -> list[Op]:
    """Functions on the way to the output that use the batch's statistics in training, running ones in evaluation."""
    above = subject.deps.ancestors([subject.lineage.output]) if subject.lineage.output >= 0 else set()
    return [
        op for op in subject.tape.ops
        if op.name in NORMALISING and above.intersection(op.outs) and argument(op, 5, _flag(op)) is True
        and isinstance(argument(op, 1, "running_mean"), Ref) and isinstance(argument(op, 2, "running_var"), Ref)
    ]  # fmt: skip


def _flag(op: Op) -> str:
    return "training" if op.name == "batch_norm" else "use_input_stats"


def argument(op: Op, position: int, name: str) -> Any:
    return op.args[position] if len(op.args) > position else op.kwargs.get(name)


def moments(subject: Any, ops: list[Op], replay: Replay | None = None) -> Moments:
    """What running statistics settle to at these weights: mean over batches of each channel's mean and variance.

    With `replay`: those of its own step's batch alone.
    """
    feeds = feeds_looked_at(subject) if replay is None else [{}]
    sums: Moments = {}
    for i, feed in enumerate(feeds):
        fed = dict(feed)
        if subject.lineage.eps >= 0:
            fed[subject.lineage.eps] = noise_like(subject.lineage, i)
        with torch.no_grad():
            values = (replay or subject.replay).run(
                [op.reads[0] for op in ops], feed=fed, training=False, batch_statistics=True
            )
        for op in ops:
            mean, variance = _moments(op, values[op.reads[0]])
            before = sums.get(op.index, (torch.zeros_like(mean), torch.zeros_like(mean)))
            sums[op.index] = (before[0] + mean / len(feeds), before[1] + variance / len(feeds))
    return sums


def _moments(op: Op, value: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel (axis 1); instance norm takes them of each example and averages."""
    rows = value.flatten(2) if value.dim() > 2 else value[..., None]
    if op.name == "instance_norm":
        return rows.mean(2).mean(0), rows.var(2).mean(0)
    columns = rows.transpose(0, 1).flatten(1)
    return columns.mean(1), columns.var(1) if columns.shape[1] > 1 else torch.zeros_like(columns[:, 0])


def _renewed(ops: list[Op], seen: Moments) -> dict[int, Tensor]:
    fed = {}
    for op in ops:
        for position, name, value in ((1, "running_mean", seen[op.index][0]), (2, "running_var", seen[op.index][1])):
            fed[argument(op, position, name).slot] = value
    return fed


def _drift(replay: Replay, ops: list[Op], seen: Moments) -> dict[int, float]:
    """Index of an op -> KL(N(seen moments) || N(running moments)), nats per channel."""
    found = {}
    for op in ops:
        slots = [argument(op, 1, "running_mean").slot, argument(op, 2, "running_var").slot]
        with torch.no_grad():
            running = replay.run(slots)
        mean, variance = (running[s].double() for s in slots)
        m, v = seen[op.index]
        ratio = v.clamp_min(1e-12) / variance.clamp_min(1e-12)
        kl = 0.5 * (ratio - 1 - ratio.log() + (m - mean).square() / variance.clamp_min(1e-12))
        found[op.index] = float(kl.mean())
    return found


def _drift_then(subject: Any, ops: list[Op]) -> dict[int, float]:
    """The drift at the main step, with its weights, before it: of its one batch."""
    kept = subject.main.parameters
    if not kept:
        return {}
    replay = Replay(subject.tape, kept)
    return _drift(replay, ops, moments(subject, ops, replay))


def _cumulative(subject: Any, op: Op) -> bool:
    key = subject.tape.shape_key()
    position = subject.tape.ops.index(op)
    found = {
        float(argument(step.tape.ops[position], 6, "momentum"))
        for step in subject.steps if step.tape.shape_key() == key
    }  # fmt: skip
    return len(found) > 1


def _error(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs - targets).square().sum(1).mean())
