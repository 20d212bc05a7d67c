"""Does the decoder see the data by another way than z, and does it still need z?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.cut import noise_like
from whyvae.audit.flow import flowed
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import Spectrum, by_example
from whyvae.probes.objective import Objective, audited_likelihood
from whyvae.verdict import Where
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op

LEAK = 1e-6  # of the outputs' spread; a replay in float64 repeats itself to 1e-13
MOST_FEEDS = 6
LITTLE = 0.05  # of what a constant output leaves: a twentieth, as POS05 counts the other way round
SAVED = 1.0  # nats: a code that saves less tells apart fewer than e = 2.7 kinds of example


@dataclass(frozen=True)
class Bypass(Probe):
    """Outputs with z held and the data exchanged between examples, and with z exchanged and the data held; evaluation mode.

    `side` and `latent`: by how much the reconstruction error grows when the data behind the side path, or z, are another
    example's, in units of what the best constant output leaves. `gain`: nats per example that its own z saves.
    """

    leak: bool  # with z held, the output changes with the data
    own: bool  # an output number changes with the very data number it is to reproduce
    side: float
    latent: float
    gain: float
    heavy: bool  # the KL weighs more than the data can pay for, so z is dropped anyway
    at: Where | None  # where the side path joins what z makes
    alone: bool = False  # the script decodes new latents, and nothing but them (constants in the place of the rest)
    features: bool = False  # the side path begins at features of the encoder's from which all of z is made

    @property
    def matters(self) -> bool:
        """Does the side path say anything worth mentioning of the example?"""
        return self.leak and abs(self.side) >= LITTLE

    @property
    def by_past(self) -> bool:
        """Is it the example's own past (teacher forcing)?"""
        return self.matters and not self.own

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        if objective.not_auditable:
            raise CannotMeasure(f"does not apply: {objective.not_auditable.removeprefix('does not apply: ')}")
        lineage = subject.lineage
        if min(lineage.z, lineage.output, lineage.data) < 0 or lineage.target is None:
            raise CannotMeasure(
                "does not apply: data, latent, output and target were not all found on the recorded step"
            )
        if subject.broken:
            raise CannotMeasure("explained by TRN01: the trained parameters are no numbers to measure at")
        latents = tuple(dict.fromkeys((lineage.z, *lineage.candidates, *_flowed(subject, objective))))
        arms = _Arms(subject, latents)
        try:
            if not arms.leaks():
                return cls(False, False, 0.0, math.nan, math.nan, False, None)
            side, latent, gain = arms.ablated()
            own = arms.own()
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed
        joined = list(joins(subject, latents))
        at = next((Where(*op.place) for op, _ in joined if op.place is not None), None)
        features = _features(subject, latents, arms.shown, {s for _, met in joined for s in met})
        return cls(True, own, side, latent, gain, _heavy(subject, objective), at, _alone(subject), features)


def _flowed(subject: Any, objective: Objective) -> Iterator[int]:
    """What a normalising flow makes of z: the data that steer it (Kingma et al. 2016) belong to the encoder."""
    regulariser = objective.regulariser
    place = flowed(subject.lineage, subject.replay, regulariser.weight) if regulariser.flow else -1
    if place >= 0:
        yield place


class _Arms:
    """The recorded step with data and latents set independently of each other."""

    def __init__(self, subject: Any, latents: tuple[int, ...]) -> None:
        self.subject, self.lineage, self.latents = subject, subject.lineage, latents
        self.feeds = (subject.train or [{}])[-MOST_FEEDS:]
        self.likelihood = audited_likelihood(subject)
        self.shown = shown(subject)
        made = subject.deps.descendants(self.shown)
        self.beside = [{s: v for s, v in feed.items() if s not in made} for feed in self.feeds]  # labels and the like

    def values(self, index: int) -> dict[int, Tensor]:
        """Data, latents, target and output of one recorded batch."""
        feed = dict(self.feeds[index])
        if self.lineage.eps >= 0:
            feed[self.lineage.eps] = noise_like(self.lineage, index)
        wanted = [*self.shown, *self.latents, self.lineage.target, self.lineage.output]
        return self._run(wanted, feed)

    def output(self, index: int, given: dict[int, Tensor]) -> Tensor:
        """The output where the slots in `given` hold these values."""
        return self._run([self.lineage.output], {**self.beside[index], **given})[self.lineage.output]

    def _run(self, wanted: list[int], feed: dict[int, Tensor]) -> dict[int, Tensor]:
        with torch.no_grad():
            got = self.subject.replay.run(wanted, feed={s: v.clone() for s, v in feed.items()}, training=False)
        return {s: v.clone() for s, v in got.items()}

    def leaks(self) -> bool:
        own = self.values(-1)
        held = {s: own[s] for s in self.latents}
        other = self.output(-1, {**held, **self.exchanged(own, self.shown)})
        same = self.output(-1, {**held, **{s: own[s] for s in self.shown}})
        return float((other - same).abs().max()) > LEAK * max(float(same.std()), 1e-12)

    def exchanged(self, own: dict[int, Tensor], slots: Iterable[int]) -> dict[int, Tensor]:
        """Each example's values of `slots` given to the next example."""
        return {s: own[s].roll(1, _axis(own[s], self.subject.batch)) for s in slots}

    def ablated(self) -> tuple[float, float, float]:
        """(Growth of the error without the own side path, without the own z, nats that z saves)."""
        sums = [0.0] * 5
        for i in range(len(self.feeds)):
            own = self.values(i)
            data, z = {s: own[s] for s in self.shown}, {s: own[s] for s in self.latents}
            outputs = (
                self.output(i, {**data, **z}),
                self.output(i, {**z, **self.exchanged(own, self.shown)}),
                self.output(i, {**data, **self.exchanged(own, self.latents)}),
            )
            target = own[self.lineage.target]
            sums = [a + b for a, b in zip(sums, self._measured(outputs, target), strict=True)]
        whole, no_side, no_z, constant, nats = (v / len(self.feeds) for v in sums)
        constant = max(constant, 1e-300)
        if math.isnan(nats):  # squared errors, at the variance that fits
            size = self.subject.tape.slots[self.lineage.target].numel / self.subject.batch
            nats = size / 2 * math.log(max(no_z, 1e-300) / max(whole, 1e-300))
        return (no_side - whole) / constant, (no_z - whole) / constant, nats

    def _measured(self, outputs: tuple[Tensor, ...], target: Tensor) -> list[float]:
        batch, likelihood = self.subject.batch, self.likelihood
        if likelihood is not None:
            pairs = [likelihood.pair(o, target) for o in outputs]
            outputs, target = tuple(points for points, _ in pairs), pairs[0][1]
        if any(o.numel() != target.numel() for o in outputs):
            raise CannotMeasure("does not apply: output and target have different sizes")
        if likelihood is not None and likelihood.of_classes:
            errors = [_cross_entropy(o, target) / batch for o in outputs]
            return [*errors, _unigram(target) / batch, errors[2] - errors[0]]
        rows = [by_example(o.reshape(target.shape), batch) for o in outputs]
        t = by_example(target.double(), batch)
        errors = [float((r - t).square().sum(1).mean()) for r in rows]
        nats = math.nan
        if likelihood is not None and likelihood.is_bernoulli:
            logs = [_bernoulli(r, t) for r in (rows[0], rows[2])]
            nats = logs[1] - logs[0]
        return [*errors, float(t.var(0, correction=0).sum()), nats]

    def own(self) -> bool:
        """Do numbers of the output change where the data they are to reproduce are changed?"""
        own, batch = self.values(-1), self.subject.batch
        held = {s: own[s] for s in self.latents}
        target, same = own[self.lineage.target], self.output(-1, {**held, **{s: own[s] for s in self.shown}})
        offsets = {s: _offset(own[s], target, batch) for s in self.shown}
        for share in (0.3, 0.5, 0.7):
            place = _moving(target, batch, share)
            changed = {s: _one_exchanged(own[s], batch, share, place, offset) for s, offset in offsets.items()}
            feed = {**self.beside[-1], **held, **changed}
            got = self._run([self.lineage.target, self.lineage.output], feed)
            moved = _places(got[self.lineage.output], same, target)
            if bool((moved & (got[self.lineage.target] != target).reshape(moved.shape)).any()):
                return True
        return False


def shown(subject: Any) -> tuple[int, ...]:
    """What of a step's data may hold the examples themselves: the encoder's data, the target, shifted copies of either."""
    lineage = subject.lineage
    found = [lineage.data]
    target = lineage.target
    if target not in subject.deps.descendants([lineage.data]):
        found.append(target)
    batch, feed = subject.batch, subject.train[-1] if subject.train else {}
    with torch.no_grad():
        values = subject.replay.run(found, feed=feed)
    rows = [by_example(v.double(), batch) for v in values.values() if v.numel() % batch == 0]
    for slot, value in feed.items():
        if slot in subject.deps.descendants(found) or value.numel() % batch or value.numel() < 4 * batch:
            continue
        step = value.shape[-1] if value.dim() > 2 else 1
        if any(_shifted(by_example(value.double(), batch), r, step) for r in rows):
            found.append(slot)
    return tuple(found)


def _shifted(a: Tensor, b: Tensor, step: int) -> bool:
    """Is `a` [B, m] mostly `b` [B, n], or `b` one step earlier or later?"""
    return _shift(a, b, step) is not None


def _shift(a: Tensor, b: Tensor, step: int) -> int | None:
    """Columns by which `a` [B, m] is ahead of `b` [B, n] where it is mostly the same: 0 or `step` either way; else None."""
    for shift in (0, step, -step):
        left, right = a[:, max(0, shift) :], b[:, max(0, -shift) :]
        n = min(left.shape[1], right.shape[1])
        alike = n * 2 > a.shape[1] and float((left[:, :n] == right[:, :n]).double().mean()) > 0.95
        if alike and float(left[:, :n].double().std()) > 0:
            return shift
    return None


def _offset(value: Tensor, target: Tensor, batch: int) -> int | None:
    """How many numbers later than in `target` the same number of an example stands in `value`; None: it cannot be told."""
    if value.numel() % batch or target.numel() % batch:
        return None
    step = target.shape[-1] if target.dim() > 2 and target.is_floating_point() else 1
    shift = _shift(by_example(target.double(), batch), by_example(value.double(), batch), step)
    return None if shift is None else -shift


def _axis(value: Tensor, batch: int) -> int:
    return 1 if value.dim() > 1 and value.shape[0] != batch and value.shape[1] == batch else 0


def _moving(value: Tensor, batch: int, share: float) -> int:
    """The number of an example, at about this share of its length, that is not the same for all."""
    flat = by_example(value, batch) if value.numel() % batch == 0 else value.reshape(value.shape[0], -1)
    j = int(share * flat.shape[1])
    moving = [k for k in range(flat.shape[1]) if bool((flat[:, k] != flat[0, k]).any())]
    return min(moving, key=lambda k: abs(k - j), default=j)


def _one_exchanged(value: Tensor, batch: int, share: float, place: int, offset: int | None) -> Tensor:
    """`value` with one number of each example given to the next example: that of `place` in the target, or if it is not known
    where in `value` that stands (`offset`), one at this share of its length.
    """
    axis = _axis(value, batch)
    rows = value.movedim(axis, 0).clone()
    split = rows.shape[0] != batch and rows.numel() % batch == 0  # [B * T]
    flat = rows.reshape(batch if split else rows.shape[0], -1)
    inside = offset is not None and 0 <= place + offset < flat.shape[1]
    j = place + (offset or 0) if inside else _moving(value, batch, share)
    flat[:, j] = flat[:, j].roll(1)
    return flat.reshape(rows.shape).movedim(0, axis)


def _places(other: Tensor, same: Tensor, target: Tensor) -> Tensor:
    """Where the output moved, in the shape of the target; classes are put together."""
    moved = (other - same).abs() > LEAK * max(float(same.std()), 1e-12)
    if moved.numel() == target.numel():
        return moved.reshape(target.shape)
    axis = 1 if moved.dim() == target.dim() + 1 else -1
    return moved.any(axis).reshape(target.shape)


def _cross_entropy(probabilities: Tensor, shares: Tensor) -> float:
    return -float((shares.reshape(probabilities.shape) * probabilities.clamp_min(1e-12).log()).sum())


def _unigram(shares: Tensor) -> float:
    """Nats that the frequencies of the classes alone leave."""
    rows = shares.reshape(-1, shares.shape[-1])
    return _cross_entropy((rows.sum(0) / rows.sum().clamp_min(1e-300)).expand_as(rows), rows)


def _bernoulli(p: Tensor, t: Tensor) -> float:
    p = p.clamp(1e-7, 1 - 1e-7)
    return float(-(t * p.log() + (1 - t) * (1 - p).log()).sum(1).mean())


def _alone(subject: Any) -> bool:
    """Does nothing that differs between examples enter where the script decodes new latents, but for what it drew there?"""
    for tape in {id(call.tape): call.tape for call in subject.decoded}.values():
        deps = Dependencies(tape)
        made = deps.descendants([call.slot for call in subject.decoded if call.tape is tape])
        used = deps.ancestors(made) - deps.parametric  # an evaluation may stand on the same tape
        given = (s.value for s in tape.slots if s.external and s.index in used and not s.trainable)
        if any(v is not None and v.dim() > 0 and bool((v != v[:1]).any()) for v in given):
            return False
    return bool(subject.decoded)


def _heavy(subject: Any, objective: Objective) -> bool:
    """Would z be dropped for its weight alone?"""
    if not objective.weight_known:
        return False
    if objective.own_variance:
        return objective.noise_variance > 1.5
    try:
        return objective.noise_variance > Spectrum.measure(subject).threshold
    except CannotMeasure:
        return False


def joins(subject: Any, latents: tuple[int, ...]) -> Iterator[tuple[Op, set[int]]]:
    """Functions, on the way to the output, of both something z makes and something the data make beside z; the latter's slots."""
    deps, lineage = subject.deps, subject.lineage
    beside, toward = set(shown(subject)), deps.ancestors([lineage.output])
    behind = deps.descendants(latents)
    for op in subject.tape.ops:
        met = beside.intersection(op.reads)
        made = [s for s in (*op.outs, *op.writes) if s not in latents]
        if met and not behind.isdisjoint(op.reads) and not toward.isdisjoint(made):
            yield op, met
        elif met:
            beside.update(s for s in made if s not in behind)


def _features(subject: Any, latents: tuple[int, ...], data: tuple[int, ...], met: set[int]) -> bool:
    """Is z made of nothing but what the side path, which joins by the slots `met`, begins at?

    So no condition can be (a part of the example that is known when new ones are made): that z would be made of the rest too.
    """
    deps = subject.deps
    between = deps.ancestors(met) & deps.ancestors(latents) & deps.encoded & deps.descendants(data)
    return any(deps.ancestors(latents, stop={slot}).isdisjoint(data) for slot in between)
