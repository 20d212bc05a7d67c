"""Does the model do as well on examples it was not trained on? Held-out ones, or such as are left out from now on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.course import Course, Feed
from whyvae.probes.court import Court
from whyvae.probes.objective import Objective
from whyvae.verdict import Where
from whyvae.watch.feeds import entering_slots, fresh_slots
from whyvae.watch.replay import ReplayFailed

SECONDS = 3.0
MOST_STEPS = 1000
CHECK = 100  # steps after which the examples left out are looked at again
GIVEN_UP = 300  # steps after which less than HOPELESS of the worth forgotten ends the trial
HOPELESS = 0.05
COVERED = 0.9  # of all examples must be recorded: with 0.6 of them, going on without the rest overfits a healthy model
FEWEST_LEFT_OUT = 8
MOST_PARAMETERS = 20_000_000
JUDGED = 6  # batches


@dataclass(frozen=True)
class Generalisation(Probe):
    """In nats per example, or in units of the loss, as in `BranchTest`; NaN where it was not measured.

    `gap`: loss on held-out examples minus loss on recorded training examples. `forgotten`: what the loss of a third
    of the recorded examples rises by when training goes on with the other two thirds, or that minus what the loss of
    those rises by, if that is less: a lower bound of the gap, for what was learnt by heart is forgotten.
    """

    gap: float
    gap_error: float
    held: int  # examples
    forgotten: float
    forgotten_error: float
    steps: int  # of the trial
    achieved: float  # what the outputs are worth on training examples
    unit: str
    distinct: int  # examples among those recorded
    examples: float  # estimated number of examples in the training set
    epochs: float
    at: Where | None
    reason: str  # why neither was measured

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        course = Course(subject)
        if subject.broken or subject.count == 0 or not subject.train:
            raise CannotMeasure("does not apply: no training that ended in numbers was seen")
        if sum(p.numel() for p in subject.replay.parameters.values()) > MOST_PARAMETERS:
            raise CannotMeasure("the model takes too long to train in an examination")
        try:
            return cls._measured(course, objective)
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed

    @classmethod
    def _measured(cls, course: Course, objective: Objective) -> Self:
        subject = course.subject
        with course.alone(subject.train[0]):
            trained = Court(course, objective, subject.train, 1)
            achieved = trained.achieved()
            gap, gap_error, held = _gap(course, objective, trained)
            pool = Pool.of(subject)
            reason, forgotten = _why_not(course, pool), (math.nan, math.nan, 0)
            if math.isnan(gap) and not reason:
                assert pool is not None  # noqa: S101
                forgotten = _forgotten(course, objective, pool, achieved)
        place = subject.optimizers[0].stepped_at if subject.optimizers else None
        distinct, examples = (pool.distinct, pool.examples) if pool else (0, math.nan)
        return cls(
            gap, gap_error, held, *forgotten, achieved, trained.unit, distinct, examples,
            subject.count * subject.batch / examples, Where(*place) if place else None,
            "" if math.isfinite(gap) else reason,
        )  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """The distinct recorded examples. `rows`: slot -> its values for each, [distinct, ...]."""

    rows: Feed
    rest: Feed  # what is fed besides, the same for all
    batch: int
    distinct: int
    examples: float

    @classmethod
    def of(cls, subject: Any) -> Self | None:
        """None where examples cannot be told from each other in what a step is fed."""
        feeds, batch, slot = subject.train, subject.batch, subject.lineage.data
        entering = entering_slots(subject.deps)
        mine = [s for s in feeds[0] if feeds[0][s].dim() > 0 and feeds[0][s].shape[0] == batch]
        # an example is all that is given of it: half of an image may be the same for many
        given = sorted(({slot} | entering) & set(mine) - {subject.lineage.eps})
        if not given or any(s not in mine and feeds[0][s].numel() >= batch for s in entering & feeds[0].keys()):
            return None
        rows = {s: torch.cat([feed[s] for feed in feeds]) for s in mine}
        first: dict[int, int] = {}
        for i, parts in enumerate(zip(*(rows[s] for s in given), strict=True)):
            first.setdefault(hash(tuple(part.contiguous().numpy().tobytes() for part in parts)), i)
        chosen = torch.tensor(list(first.values()))
        rest = {s: v for s, v in feeds[-1].items() if s not in mine}
        drawn = rows[given[0]].shape[0]
        return cls({s: v[chosen] for s, v in rows.items()}, rest, batch, len(first), size_of_set(len(first), drawn))

    def batches(self, chosen: Tensor, count: int, generator: torch.Generator) -> list[Feed]:
        """`count` batches drawn from the examples in `chosen`."""
        picks = [chosen[torch.randint(len(chosen), (self.batch,), generator=generator)] for _ in range(count)]
        return [{**self.rest, **{s: v[pick] for s, v in self.rows.items()}} for pick in picks]


def size_of_set(distinct: int, drawn: int) -> float:
    """How many there are, if `drawn` picks at random show `distinct` different ones: n (1 - (1 - 1/n)^drawn)."""
    if distinct >= drawn:
        return math.inf
    low, high = float(distinct), 1e12
    for _ in range(200):
        n = math.sqrt(low * high)
        low, high = (n, high) if -n * math.expm1(drawn * math.log1p(-1 / max(n, 1.0 + 1e-9))) < distinct else (low, n)
    return math.sqrt(low * high)


def _gap(course: Course, objective: Objective, trained: Court) -> tuple[float, float, int]:
    """(gap, its standard error, held-out examples)."""
    feeds = _complete(course.subject)
    if not feeds:
        return math.nan, math.nan, 0
    held, known = Court(course, objective, feeds, 1).costs(), trained.costs()
    variances = [float(v.var()) / len(v) if len(v) > 1 else math.inf for v in (held, known)]
    return float(held.mean() - known.mean()), math.sqrt(sum(variances)), len(feeds) * course.subject.batch


def _complete(subject: Any) -> list[Feed]:
    """Held-out feeds, if they hold all of an example that enters the model (labels, a sequence's past)."""
    feeds: list[Feed] = subject.held_out
    if not feeds:
        return []
    deps, known, held = subject.deps, subject.train[0], set(feeds[0])
    fresh = {s for s in set(fresh_slots(deps.tape)) - deps.ancestors(held) if not _one_number(known.get(s))}
    entering = [s for s in entering_slots(deps) & known.keys() - held if known[s].numel() >= subject.batch]
    missing = [s for s in entering if not fresh.isdisjoint(deps.ancestors([s], stop=held))]
    return [] if missing else feeds


def _one_number(value: Tensor | None) -> bool:
    """Is it the same wherever it is, as a first token or a first state? Then it says nothing of an example."""
    return value is not None and bool((value == value.flatten()[0]).all())


def _why_not(course: Course, pool: Pool | None) -> str:
    """Why no examples can be left out."""
    none = "the script evaluated on no other data"
    if pool is None:
        return f"{none}, and examples cannot be told apart in what a step is given"
    if pool.distinct < COVERED * pool.examples:
        return f"{none}, and it trained on more examples than were recorded ({pool.distinct} of them)"
    if pool.distinct // 3 < FEWEST_LEFT_OUT:
        return f"{none}, and it trained on too few examples ({pool.distinct}) to leave some out"
    return "" if course.rate > 0 else f"{none}, and the learning rate was not seen"


def _forgotten(course: Course, objective: Objective, pool: Pool, achieved: float) -> tuple[float, float, int]:
    """(forgotten, its standard error, steps): training goes on without a third of the examples."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(pool.distinct, generator=generator)
    out, kept = order[: pool.distinct // 3], order[pool.distinct // 3 :]
    left, judged = (Court(course, objective, pool.batches(c, JUDGED, generator), 2) for c in (out, kept))
    feeds, begin = pool.batches(kept, 48, generator), time.process_time()
    forgotten, error = 0.0, math.nan
    with course.branched():
        course.prime(feeds[:16])
        for step in course.train(feeds, 1.0):
            late = time.process_time() - begin > SECONDS or step >= MOST_STEPS
            if step % CHECK and not late:
                continue
            rose = -left.gained()
            more = rose + judged.gained().mean()
            worse = rose if float(rose.mean()) < float(more.mean()) else more
            forgotten, error = float(worse.mean()), float(worse.std()) / math.sqrt(len(worse))
            if late or (step >= GIVEN_UP and forgotten < HOPELESS * achieved):
                return forgotten, error, step
    return forgotten, error, 0
