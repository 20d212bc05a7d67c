"""Are samples taken back to the units that the script's data had? What perfect samples would be there, beside the data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from whyvae.audit.likelihood import Likelihood
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.bent import bent_back
from whyvae.probes.data import target_rows
from whyvae.probes.lossy import Way
from whyvae.probes.objective import audited_likelihood
from whyvae.probes.parts import further_parts
from whyvae.probes.recipes import Recipe
from whyvae.probes.showing import entered, way_to
from whyvae.verdict import Where
from whyvae.watch.arrays import Array
from whyvae.watch.replay import Replay, ReplayFailed

ROWS = 64  # examples that are looked for in an array
MOST_ROWS = 20_000  # of an array, in which they are
MOST_COLUMNS = 256  # that are each followed as a curve: of a table, not of a picture
MOST_SORTED = 4096  # rows, of which the quartiles are taken
QUARTILES = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
FEATURES = 32  # by which they are told apart
SAME = 1e-3  # of a standard deviation: float32 numbers that were scaled and are the same
NEAR = 0.01  # of a number: the same one, estimated on a part of the data, or by n - 1 in place of n
ROUNDED = 0.05  # of a standard deviation: numbers that were rounded are still made of these
ROUNDS = 12
ERRORS = 4  # standard ones, by which the mean of noise may be off


Found = tuple[float, str, str, int, tuple[float, float], tuple[float, float]]  # the first fields of Undone


class Link(NamedTuple):
    """A function that is undone behind the decoder; from which number on it is defined, that one included or not."""

    name: str
    apply: Callable[[Tensor], Tensor]
    low: float
    included: bool = False

    def of(self, values: Tensor) -> Tensor | None:
        """None where a number lies outside."""
        low = float(values.min()) if values.numel() else math.nan
        return self.apply(values) if low > self.low or (self.included and low == self.low) else None


PLAIN = Link("", lambda values: values, -math.inf)
LINKS = (Link("log1p", torch.log1p, -1), Link("log", torch.log, 0), Link("sqrt", torch.sqrt, 0, included=True))


class Scale(NamedTuple):
    """to = factor * from + offset, feature by feature; NaN for one that does not vary. `error`: standard error of the
    offset, where samples get noise on the way.
    """

    factor: Tensor
    offset: Tensor
    error: Tensor

    @property
    def identity(self) -> bool:
        off = torch.maximum((self.factor - 1).abs(), self.offset.abs())
        return bool((off[torch.isfinite(off)] < SAME).all())


@dataclass(frozen=True)
class Undone(Probe):
    """The array of new samples that comes nearest to the units of the data as the script has them in another array.

    `moved`: squared distance between a perfect sample there and the same example of the data, as a share of the data's
    variance (mean over features, each 1 at most); another common unit (thousands, [0, 1] for 0 to 255) is no distance.
    `made`, `real`: (mean, standard deviation) of the feature that is furthest off, of perfect samples and of the data. All
    that is of the numbers themselves, or where the data were put through one of LINKS (`link`), of that function of them.
    """

    moved: float
    samples: str  # the array of samples, by the name that the script has for it
    original: str  # the data in the units that the script began with
    feature: int
    made: tuple[float, float]
    real: tuple[float, float]
    at: Where | None  # where the decoder was called
    link: str = ""

    @classmethod
    def measure(cls, subject: Any) -> Self:
        found, reasons = [], []
        for part in (subject, *further_parts(subject)):
            try:
                found.append(_of_part(part))
            except CannotMeasure as reason:
                reasons.append(reason)
        if not found:
            raise reasons[0]
        (moved, samples, original, feature, made, real), link = max(found)
        place = subject.decoded[-1].place
        return cls(moved, samples, original, feature, made, real, Where(*place) if place else None, link)


def _of_part(subject: Any) -> tuple[Found, str]:
    """The comparison in which samples come nearest to the data, and the name of the function in whose numbers it is made.

    Raises:
        CannotMeasure: there is nothing to compare.
    """
    rows = _targets(subject)
    alike = [a for a in subject.arrays if a.features == rows.shape[1]]
    around = [(a, values) for a in alike if (values := a.rows()) is not None]
    known = False
    for link in (PLAIN, *LINKS):  # the data may stand in several: counts, and their logarithm
        originals = _originals(rows, around, link)
        known |= bool(originals)
        found = [
            _compared(rows, a.name, back, original.name, scale, link)
            for a, back in (_backs(subject, rows, around, link) if originals else ())
            for original, scale in originals
            if link is not PLAIN or _attempted(rows, back, scale)  # who undoes the function means these units
        ]
        if found:
            return min(found), link.name
    bent = [*_bent(subject, rows, around)]
    if bent:
        return min(bent), ""
    if not known:
        raise CannotMeasure("does not apply: the data stand in no other units beside the samples")
    raise CannotMeasure("does not apply: nothing was seen that takes samples back to other units")


def _bent(subject: Any, rows: Tensor, around: list[tuple[Array, Tensor]]) -> Iterator[Found]:
    """Comparisons with data whose columns were not all put through one function."""
    if rows.shape[1] > MOST_COLUMNS:
        return
    tables = [(a, v) for a, v in around if a.slot < 0]
    given = [v for _, v in tables if (scale := found_in(rows, v)) is not None and scale.identity]
    lefts = [left.value.detach() for left in subject.left if left.value.dim() > 1]
    for x, (original, values), left, (samples, made) in itertools.product(given[:1], tables, lefts, tables):
        if len(values) != len(x) or values is x or len(made) != len(left):
            continue
        found = bent_back(*(table[:MOST_ROWS].double().flatten(1) for table in (x, values, left, made)))
        if found is not None and found.attempted:
            worst = int(found.off.argmax())
            numbers = ((float(t[:, worst].mean()), float(t[:, worst].std())) for t in (found.made, found.real))
            yield float(found.off.mean()), samples.name, original.name, worst, *numbers


def _originals(rows: Tensor, around: list[tuple[Array, Tensor]], link: Link) -> list[tuple[Array, Scale]]:
    """Arrays of the data in units of their own, and by which scale `rows` are what `link` makes of them."""
    given = [(a, values) for a, v in around if a.slot < 0 and (values := link.of(v)) is not None]
    found = [(a, scale) for a, values in given if (scale := found_in(rows, values)) is not None]
    return [(a, scale) for a, scale in found if link is not PLAIN or not scale.identity]


def _targets(subject: Any) -> Tensor:
    """Examples as the model is to put them out, [n, features]."""
    likelihood: Likelihood | None = audited_likelihood(subject)
    family = likelihood.family if likelihood is not None else ""
    if family.endswith("logits") or family.startswith("poisson") or (likelihood is not None and likelihood.of_classes):
        raise CannotMeasure("does not apply: the decoder's output is not in the data's space")
    rows = target_rows(subject)
    if not bool(torch.isfinite(rows).all()):
        raise CannotMeasure("does not apply: not all data are finite")
    return rows


# ---------------------------------------------------------------- the data, in other units
def found_in(rows: Tensor, array: Tensor) -> Scale | None:
    """The scale by which `rows` are rows of `array`, in whatever order; None where they are not.

    Rows are paired with the nearest ones by the scale known so far, which is fitted anew to the better half of the pairs
    (iterative closest points, Besl and McKay 1992); that they are the same is then seen on nearly all.
    """
    space = array[:MOST_ROWS].flatten(1)
    space = space[torch.isfinite(space).all(1)]
    if space.shape[0] < 2:
        return None
    few, spread = rows[torch.linspace(0, rows.shape[0] - 1, ROWS).long()], space.std(0).double()
    lively = (rows.std(0) > 0) & (spread > 0)
    if not bool(lively.any()) or few.unique(dim=0).shape[0] < ROWS // 2:
        return None
    seen = lively.nonzero()[:, 0]
    seen = seen[torch.linspace(0, len(seen) - 1, min(len(seen), FEATURES)).long()]
    paired = (_paired(few, space, spread, lively, seen, *start) for start in _starts(rows, space.double(), lively))
    return next((scale for scale in paired if scale is not None), None)


def _starts(rows: Tensor, space: Tensor, lively: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Scales to begin with: by mean and standard deviation, and, which few far ones do not move, by quartiles."""
    for ends in (_moments, _quartiles):
        (low, width), (there, breadth) = ends(rows), ends(space)
        factor = torch.where(lively & (width > 0), breadth / width.clamp_min(1e-300), torch.ones(()).double())
        yield factor, there - factor * low


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), x.std(0)


def _quartiles(x: Tensor) -> tuple[Tensor, Tensor]:
    low, middle, high = x[torch.linspace(0, len(x) - 1, min(len(x), MOST_SORTED)).long()].quantile(QUARTILES, 0)
    return middle, high - low


def _paired(
    few: Tensor, space: Tensor, spread: Tensor, lively: Tensor, seen: Tensor, factor: Tensor, offset: Tensor
) -> Scale | None:
    near, unit = space[:, seen].double() / spread[seen], spread.clamp_min(1e-300)
    for _ in range(ROUNDS):
        distance, which = torch.cdist((few * factor + offset)[:, seen] / spread[seen], near).min(1)
        if which.unique().numel() < ROWS // 2:  # all would be the same, by a factor of 0
            return None
        paired, better = space[which].double(), distance.argsort()[: ROWS // 2]
        factor, offset = _line(few[better], paired[better], factor, offset)
    same = ((few * factor + offset - paired).abs() / unit)[:, lively].amax(1) < SAME
    return _settled(factor, offset, lively) if float(same.double().mean()) > 0.9 else None


def _line(x: Tensor, y: Tensor, factor: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares, feature by feature; as it was where x does not vary."""
    centred = x - x.mean(0)
    square = centred.square().sum(0)
    slope = torch.where(square > 0, (centred * (y - y.mean(0))).sum(0) / square.clamp_min(1e-300), factor)
    return slope, torch.where(square > 0, y.mean(0) - slope * x.mean(0), offset)


def _settled(factor: Tensor, offset: Tensor, lively: Tensor, error: Tensor | None = None) -> Scale:
    error = torch.zeros_like(factor) if error is None else error
    return Scale(torch.where(lively, factor, torch.nan), torch.where(lively, offset, torch.nan), error)


# ---------------------------------------------------------------- samples, in other units
def _backs(subject: Any, rows: Tensor, around: list[tuple[Array, Tensor]], link: Link) -> Iterator[tuple[Array, Scale]]:
    """Arrays of samples, and by which scale what `link` makes of them is made of the decoder's output."""
    if not subject.decoded:
        return
    tape = subject.decoded[-1].tape

    @cache  # several arrays may be made of what left torch once
    def until(slot: int, through: Link) -> Scale | None:
        way = way_to(subject, tape, [(slot, Recipe())])
        return None if way is None or way.missing else _along(rows, way, through)

    for array, values in around:
        ends = [(array.slot, None)] if array.slot >= 0 else [(left.slot, left.value) for left in subject.left]
        for slot, value in ends:
            linked = link.of(values)
            after = None if value is None or linked is None else _made_of(value, linked)
            if value is not None and after is None:
                continue
            if (before := until(slot, link if value is None else PLAIN)) is not None:
                yield array, before if after is None else _joined(before, after)
                break


def _made_of(value: Tensor, array: Tensor) -> Scale | None:
    """The scale by which `array` was made of `value`, row by row; None: in another way. What is cut off at an end is left out."""
    x, y = value.detach().double(), array.double()
    n = min(x.shape[0], y.shape[0]) if x.dim() > 1 else 0
    x, y = (x[:n].flatten(1), y[:n].flatten(1)) if n else (x, y)
    if n < 8 or x.shape != y.shape:
        return None
    inner = (y > y.amin(0)) & (y < y.amax(0))
    weight = inner.double()
    count = weight.sum(0).clamp_min(1)
    mean_x, mean_y = (x * weight).sum(0) / count, (y * weight).sum(0) / count
    centred = (x - mean_x) * weight
    slope = (centred * (y - mean_y)).sum(0) / centred.square().sum(0).clamp_min(1e-300)
    offset = mean_y - slope * mean_x
    spread = y.std(0).clamp_min(1e-300)
    off = ((slope * x + offset - y).abs() * weight).amax(0) / spread
    lively = (y.std(0) > 0) & (count >= 4)
    if not bool(lively.any()) or bool((off[lively] > ROUNDED).any()) or bool((slope[lively] <= 0).any()):
        return None
    return _settled(slope, offset, lively)


def _along(rows: Tensor, way: Way, link: Link) -> Scale | None:
    """What the tape, and then `link`, do between the decoder's output and what leaves torch, noise apart; None: no change of
    units.
    """
    shape = way.call.tape.slots[way.start].shape
    if not shape or not shape[0] or rows.shape[1] * shape[0] != way.call.tape.slots[way.start].numel:
        return None
    count = shape[0]
    first, second = (rows[(torch.arange(count) + k) % rows.shape[0]] for k in (0, rows.shape[0] // 2 + 1))
    ends = []
    for fed in (first, second):
        feed = {way.call.slot: entered(way.call), way.start: fed.reshape(shape)}
        try:
            with torch.no_grad():
                end = Replay(way.call.tape).run([way.end], feed=feed, training=False, seed=0)[way.end]
        except ReplayFailed:
            return None
        if end.shape[0] != count or end.numel() != fed.numel():
            return None
        linked = link.of(end.reshape(count, -1).double())
        if linked is None:
            return None
        ends.append(linked)
    step, moved = first - second, ends[0] - ends[1]
    factor = (step * moved).sum(0) / step.square().sum(0).clamp_min(1e-300)
    lively = step.square().sum(0) > 0
    off = (moved - factor * step).abs().amax(0)
    if bool((off[lively] > SAME * moved.abs().amax(0)[lively].clamp_min(1e-12)).any()):
        return None
    rest = ends[0] - factor * first
    return _settled(factor, rest.mean(0), lively, rest.std(0) / count**0.5)


def _joined(first: Scale, second: Scale) -> Scale:
    offset = second.factor * first.offset + second.offset
    return Scale(second.factor * first.factor, offset, second.factor * first.error)


# ---------------------------------------------------------------- one beside the other
def _attempted(rows: Tensor, back: Scale, scale: Scale) -> bool:
    """Is `back` meant as the way to these units? It then has the right factors, or the right offsets, or one for the other.

    Not: leaving samples as they are; the factor alone, which is right for a spread; and what ends in [0, 1], to be shown.
    """
    known = torch.isfinite(back.factor) & torch.isfinite(scale.factor)
    if not bool(known.any()) or back.identity:
        return False
    a, b, slack, c, d, _ = (v[known] for v in (*back, *scale))
    mean, sd, slack = rows.mean(0)[known], rows.std(0)[known], ERRORS * slack
    unit = c.abs() * sd
    right_factor, right_offset = (a / c - 1).abs() < NEAR, (b - d).abs() < NEAR * unit + slack
    exchanged = ((a - d).abs() < NEAR * d.abs()) & ((b - c).abs() < NEAR * c.abs() + slack)
    if _mostly((b.abs() < SAME * unit + slack) & (d.abs() > NEAR * unit + slack)):
        return False
    ends = torch.stack([rows.amin(0)[known], rows.amax(0)[known]]) * a + b
    if float(ends.min()) > -NEAR and float(ends.max()) < 1 + NEAR and not _mostly(right_factor & right_offset):
        return False
    varied = (d.abs() > NEAR * unit) | (mean.abs() > NEAR * sd)
    again = ((a * c - 1).abs() < NEAR) & ((b * c + d).abs() < NEAR * unit + slack * c.abs())
    if _mostly(again):  # `scaler.transform` of samples, in place of its inverse
        return True
    return (
        _mostly(right_factor) or _mostly(right_offset & varied) or _mostly(exchanged) or _common(mean, sd, a, b, c, d)
    )


def _common(mean: Tensor, sd: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> bool:
    return bool(_distance(mean, sd, a, b, c, d).mean() < SAME)


def _mostly(which: Tensor) -> bool:
    return float(which.double().mean()) > 0.9


def _distance(mean: Tensor, sd: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, link: Link = PLAIN) -> Tensor:
    """Share of the variance by which a * x + b is off from c * x + d, in units that may be others for all features alike
    (another factor of a logarithm is no unit).
    """
    made, real = torch.stack([a * sd, a * mean + b]), torch.stack([c * sd, c * mean + d])
    common = (made * real).sum() / real.square().sum().clamp_min(1e-300)
    units = [torch.ones(()).double(), *([common] if link is PLAIN else [])]
    off = [((made / k - real).square().sum(0) / real[0].square()).clamp_max(1) for k in units if float(k) > 0]
    return min(off, key=lambda o: float(o.mean()))


def _compared(rows: Tensor, samples: str, back: Scale, original: str, scale: Scale, link: Link) -> Found:
    known = torch.isfinite(back.factor) & torch.isfinite(scale.factor)
    a, b, _, c, d, _ = (v[known] for v in (*back, *scale))
    mean, sd = rows.mean(0)[known], rows.std(0)[known]
    off = _distance(mean, sd, a, b, c, d, link)
    worst = int(off.argmax())
    made = float((a * mean + b)[worst]), float((a * sd)[worst])
    real = float((c * mean + d)[worst]), float((c * sd)[worst])
    return float(off.mean()), samples, original, int(known.nonzero()[worst]), made, real
