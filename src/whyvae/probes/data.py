"""What the model is given: range, scale, spectrum, finiteness."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.likelihood import Likelihood
from whyvae.audit.links import CLASSES, continuous_mean
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.collapse import score_spectrum
from whyvae.probes.objective import audited_likelihood
from whyvae.verdict import Where
from whyvae.watch.unbegun import Unbegun

MOST_ROWS = 4096
MOST_NUMBERS = 2**24  # 128 MiB: 4096 examples of 64 x 64, 85 of 256 x 256 pixels in colour


@dataclass(frozen=True)
class Data(Probe):
    """The encoder's input and the loss's target over the recorded batches. `spread_ratio`: largest over median
    distance that a (not constant) feature reaches from its median. `input_rms` is of what the encoder makes of its input
    before its first parametrised function (log1p, a batch norm, a standardisation), NaN where that is no number; `entering`
    is the range of that, and `entering_spread` its `spread_ratio`: a table may be put together of columns within the step.
    """

    rows: int
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    sd: float
    not_finite: int  # numbers, in input or target; of batches that were looked at and left out too
    refused: int  # of these, those left out
    spread_ratio: float
    constant_features: int
    target_low: float
    target_high: float
    target_binary: bool
    input_rms: float
    at: Where | None
    target_rms: float = 0.0
    entering: tuple[float, float] = (math.nan, math.nan)
    entering_spread: float = math.nan

    @property
    def part(self) -> bool:
        """Were one of several columns that enter the encoder taken for the data? It is too small for what enters."""
        return self.input_rms > max(abs(self.low), abs(self.high))

    @classmethod
    def measure(cls, subject: Any) -> Self:
        inputs = input_rows(subject)
        targets = target_rows(subject)
        finite = _finite_rows(inputs)
        low, high = float(finite.min()), float(finite.max())
        spread, constant = _reaches(finite)
        good = targets[torch.isfinite(targets)]
        if good.numel() == 0:
            good = torch.zeros(1).double()
        entering = _entering(subject, inputs)
        bad = sum(
            int((~torch.isfinite(values)).sum()) for values in (inputs if entering is None else entering, targets)
        )
        refused = sum(step.refused for step in subject.steps)
        slot = subject.tape.slots[subject.lineage.data]
        place = next(
            (op.place for op in subject.tape.ops if subject.lineage.data in op.reads and op.place),
            None,
        )
        return cls(
            inputs.shape[0], tuple(slot.shape[1:]), low, high, float(finite.mean()),
            float(finite.std()), bad + refused, refused, spread, constant, float(good.min()), float(good.max()),
            bool(((good == 0) | (good == 1)).all()), _rms(entering),
            Where(*place) if place else None, float(good.square().mean().sqrt()),
            *(((low, high), spread) if entering is inputs else _range_and_spread(entering)),
        )  # fmt: skip

    @classmethod
    def of_unbegun(cls, subject: Unbegun) -> Self:
        """Of what a script that was never trained had shown its model; what the loss would compare with is not known."""
        rows = subject.data.reshape(subject.data.shape[0], -1).double()
        good, none = rows[torch.isfinite(rows)], int((~torch.isfinite(subject.entering)).sum())
        good = good if good.numel() else torch.zeros(1).double()
        low, high, nan = float(good.min()), float(good.max()), math.nan
        return cls(
            rows.shape[0], tuple(subject.data.shape[1:]), low, high, float(good.mean()), float(good.std(correction=0)), none,
            none, nan, 0, low, high, False, _rms(subject.entering), Where(*subject.at) if subject.at else None, nan,
            *_range_and_spread(subject.entering.reshape(subject.entering.shape[0], -1).double()),
        )  # fmt: skip


def _finite_rows(rows: Tensor) -> Tensor:
    finite = rows[torch.isfinite(rows).all(1)]
    return finite if finite.shape[0] > 1 else torch.nan_to_num(rows)


def _reaches(rows: Tensor) -> tuple[float, int]:
    """(largest over median distance that a moving feature reaches from its median, features that do not move)."""
    reach = (rows - rows.median(0).values).abs().amax(0)  # a rarely lit pixel still reaches far
    moving = reach[reach > 1e-12 * max(1.0, float(rows.abs().max()))]
    ratio = float(moving.max() / moving.median()) if moving.numel() else math.nan
    return ratio, int(reach.numel() - moving.numel())


def _range_and_spread(entering: Tensor | None) -> tuple[tuple[float, float], float]:
    if entering is None:
        return (math.nan, math.nan), math.nan
    rows = _finite_rows(entering)
    return (float(rows.min()), float(rows.max())), _reaches(rows)[0]


def _rms(values: Tensor | None) -> float:
    return math.nan if values is None else float(torch.nan_to_num(values).square().mean().sqrt())


def _entering(subject: Any, inputs: Tensor) -> Tensor | None:
    """What the encoder's first layer reads of `inputs`, over the recorded steps, [n, D]: themselves, where nothing is done to
    them before; None where that is no number. A frozen layer before it (whitening, features) was made for its input.
    """
    deps, lineage, slots = subject.deps, subject.lineage, subject.tape.slots
    weights = {s.index for s in slots if s.trainable}
    trained = {o for op in subject.tape.ops if deps.is_layer(op) for o in op.outs
               if any(not weights.isdisjoint(deps.ancestors([r])) for r in op.reads if r in deps.parametric)}  # fmt: skip
    shown, encoder = deps.descendants([lineage.data]), deps.ancestors([*lineage.heads, lineage.z])
    first = next(
        (r for op in subject.tape.ops if not trained.isdisjoint(op.outs) and not encoder.isdisjoint(op.outs)
         for r in op.reads if r in shown and r not in deps.parametric),
        lineage.data,
    )  # fmt: skip
    if not slots[first].dtype.is_floating_point:
        return None
    return inputs if first == lineage.data else _rows(subject, first)


@dataclass(frozen=True)
class Spectrum(Probe):
    """Eigenvalues of the covariance of the target, largest first, and the collapse threshold they imply.

    `threshold` is lambda_max(F^-1 J) at the best constant output: lambda_1 for squared errors, the
    largest eigenvalue of P^-1/2 C P^-1/2 for BCE. A loss whose s (or effective beta) lies above it has its optimum at
    the collapsed model. `edge` is how far sampling noise may push it (Marchenko-Pastur).
    """

    eigenvalues: tuple[float, ...]
    total: float  # trace: variance of one example, summed over its numbers
    threshold: float  # Gaussian
    threshold_bernoulli: float
    bernoulli_eigenvalues: tuple[float, ...]  # or of the continuous Bernoulli or Poisson, where that is the likelihood
    rows: int
    features: int

    @classmethod
    def measure(cls, subject: Any) -> Self:
        rows = target_rows(subject)
        rows = rows[torch.isfinite(rows).all(1)]
        if rows.shape[0] < 8:
            raise CannotMeasure(f"needs 8 finite examples for a spectrum, got {rows.shape[0]}")
        centred = rows - rows.mean(0)
        values = eigenvalues(centred)
        likelihood = audited_likelihood(subject)
        bernoulli = (
            _standardised(rows, likelihood)
            if likelihood is None or likelihood.family != "density"
            else score_spectrum(subject, likelihood, feeds_looked_at(subject))
        )
        return cls(
            tuple(values[:512].tolist()), float(values.sum()), float(values[0]),
            float(bernoulli[0]) if bernoulli is not None else math.nan,
            tuple(bernoulli[:512].tolist()) if bernoulli is not None else (), rows.shape[0], rows.shape[1],
        )  # fmt: skip

    def above(self, s: float, *, bernoulli: bool) -> int:
        """How many directions of the data the optimum of a linear VAE keeps at s."""
        return sum(v > s for v in (self.bernoulli_eigenvalues if bernoulli else self.eigenvalues))


def _standardised(rows: Tensor, likelihood: Likelihood | None) -> Tensor | None:
    """Eigenvalues of the covariance in units of the likelihood's variance at the best constant output.

    That of classes is diag(p) - p p', of which diag(1 / p) is an inverse on what sums to 0, as the rows do.
    """
    family = likelihood.family if likelihood is not None else ""
    poisson = family.startswith(("poisson", *CLASSES))
    if float(rows.min()) < 0 or (float(rows.max()) > 1 and not poisson):
        return None
    p = rows.mean(0)
    mean = _at_counted(rows, p, likelihood) if likelihood is not None and likelihood.of_classes else p
    live = (p if poisson else p * (1 - p)) > 1e-6
    if int(live.sum()) < 2:
        return None
    mean, p = mean[..., live], p[live]
    variance = p if poisson else _continuous_variance(p) if family.startswith("continuous") else p * (1 - p)
    scaled = (rows[:, live] - mean) / variance.sqrt()
    trials = likelihood.trials if likelihood is not None else 1.0
    return eigenvalues(scaled) * trials


def _at_counted(rows: Tensor, p: Tensor, likelihood: Likelihood) -> Tensor:
    """The best constant shares at each position that an example counts, 0 at those that it does not, [n, D]."""
    classes = likelihood.output.shape[likelihood.axis]
    counted = rows.reshape(rows.shape[0], -1, classes).sum(-1, keepdim=True)
    shares = p.reshape(-1, classes)
    shares = shares / shares.sum(-1, keepdim=True).clamp_min(1e-300)
    return (counted * shares).flatten(1)


def eigenvalues(centred: Tensor) -> Tensor:
    """Of the covariance of rows [n, D] of mean 0, largest first, [min(n, D)]; those of 0 come out as rounding, up to 1e-15
    of the largest. The smaller of the two products is taken: an image of 256 x 256 has more numbers than there are rows.
    """
    n, features = centred.shape
    product = centred @ centred.T if n < features else centred.T @ centred
    result: Tensor = torch.linalg.eigvalsh(product).flip(0).clamp_min(0) / (n - 1)
    return result


def _continuous_variance(mean: Tensor) -> Tensor:
    """Variance of the continuous Bernoulli with this mean: slope of its mean in the logit, found by bisection."""
    low, high = torch.full_like(mean, -1e4), torch.full_like(mean, 1e4)
    for _ in range(80):
        middle = (low + high) / 2
        above = continuous_mean(middle) > mean
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    step = 1e-4 * (1 + low.abs())
    return (continuous_mean(low + step) - continuous_mean(low - step)) / (2 * step)


def input_rows(subject: Any) -> Tensor:
    """What the encoder was shown, [n, ...] flattened to [n, D], over the recorded steps."""
    if subject.lineage.data < 0:
        raise CannotMeasure("what the encoder is shown was not found on the recorded step")
    return _rows(subject, subject.lineage.data)


def numbers_beside(subject: Any) -> list[Tensor]:
    """Measurements that enter the encoder as tensors beside `input_rows`, each [n, D]: a table's, say, whose classes come as
    another tensor. Labels (whole numbers, zeros and ones) are no part of an example: the same picture may bear several.
    """
    deps, lineage, slots = subject.deps, subject.lineage, subject.tape.slots
    own = deps.ancestors([lineage.data])
    entering = sorted(deps.ancestors([*lineage.heads, lineage.z]) - own - deps.parametric - deps.drawn)
    given = [
        s
        for s in entering
        if slots[s].external and slots[s].dtype.is_floating_point and slots[s].shape[:1] == (subject.batch,)
    ]
    found = [_rows(subject, s) for s in given]
    return [rows for rows in found if not bool((rows == rows.round()).all())]


def target_rows(subject: Any) -> Tensor:
    """What the loss compares with, [n, D], over the recorded steps; classes as zeros and ones, counts as their shares."""
    found = None
    with suppress(CannotMeasure):  # of several candidates it settles which the target is
        found = audited_likelihood(subject)
    target = subject.lineage.target
    if target is None or target < 0:
        raise CannotMeasure("what the loss compares the output with was not found")
    if found is None or not found.of_classes:
        if not subject.tape.slots[target].dtype.is_floating_point:
            raise CannotMeasure("does not apply: the targets are classes, not numbers")
        return _rows(subject, target)
    if found.unmarked:
        raise CannotMeasure("does not apply: of some positions of a sequence the loss takes no notice")
    return _rows(subject, target, found.numbers)


def feeds_looked_at(subject: Any) -> list[dict[int, Tensor]]:
    """The feeds whose examples are kept in memory at once: the recorded steps', up to MOST_NUMBERS of their targets.

    All steps for tables and small images; fewer examples (`Data.rows` says how many) where one of them is large, and
    then what is averaged over examples is known less precisely.
    """
    slots, lineage = subject.tape.slots, subject.lineage
    known = [s for s in (lineage.target, lineage.data, lineage.output) if s is not None and s >= 0]
    size = max(slots[s].numel for s in known)
    found: list[dict[int, Tensor]] = (subject.train or [{}])[: max(1, MOST_NUMBERS // max(1, size))]
    return found


def _rows(subject: Any, slot: int, read: Callable[[Tensor], Tensor] = Tensor.double) -> Tensor:
    batch = subject.batch
    values = []
    for feed in feeds_looked_at(subject):
        with torch.no_grad():
            value = read(subject.replay.run([slot], feed=feed)[slot])
        if value.numel() % batch:
            batch = value.shape[0]
        values.append(by_example(value, batch))
    return torch.cat(values)[:MOST_ROWS]


def by_example(value: Tensor, batch: int) -> Tensor:
    """[batch, ...] -> [batch, D]; a time-major sequence has its batch second."""
    if value.shape[0] != batch and value.dim() > 1 and value.shape[1] == batch:
        value = value.transpose(0, 1)
    return value.reshape(batch, -1)
