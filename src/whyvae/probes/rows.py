"""Does each example stay by itself on its way to z, and from z to the output?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.cut import noise_like
from whyvae.probe import CannotMeasure, Probe
from whyvae.verdict import Where
from whyvae.watch.dependencies import PRODUCTS
from whyvae.watch.draws import NOT_GAUSSIAN
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op

MOVED = 1e-6  # of the largest movement; replays in float64 repeat themselves to 1e-13
ALONE = 1.0 + 1e-6  # examples that change when one is changed
STATISTICS = {  # of a batch, whatever its size; `batch_norm` here is one without running statistics
    "batch_norm", "mean", "nanmean", "std", "var", "var_mean", "std_mean", "median", "quantile", "amax", "amin", "max", "min",
    "aminmax",
}  # fmt: skip
_GRAPH = {
    "scatter_add",
    "scatter_add_",
    "scatter_reduce",
    "index_add",
    "index_add_",
    "spmm",
    "smm",
    "_sparse_mm",
    "segment_reduce",
}
MOST_FORGIVEN = 12


@dataclass(frozen=True)
class RowMixing(Probe):
    """`encoder`: how many examples' latents change when one example's input is replaced and nothing else, in evaluation
    mode; `decoder`: how many outputs change with one example's latent. 1 is itself alone; NaN: could not be told.

    `others`: how far the others move, as a share of its own movement. `statistics`: a mean or spread over the batch is
    taken of hidden values, by hand (this does not count in `encoder`, `decoder`).
    """

    encoder: float
    decoder: float
    others: float
    op: str  # the first function at which examples mix
    at: Where | None
    statistics: str
    statistics_at: Where | None
    by_design: str

    @classmethod
    def measure(cls, subject: Any) -> Self:
        lineage = subject.lineage
        if lineage.data < 0 or lineage.z < 0 or lineage.output < 0:
            raise CannotMeasure("does not apply: data, latent and output were not all found on the recorded step")
        if lineage.posterior.startswith(NOT_GAUSSIAN):
            raise CannotMeasure("does not apply: what draws z may use other random numbers where other examples stand")
        try:
            first, second = _ways(subject)
            # dead units show nothing: they lived at the start
            if not _mix(first, second) and subject.earliest is not None:
                with subject.replay.holding({i: v.detach().double() for i, v in subject.earliest.items()}):
                    began = _ways(subject)
                first, second = began if _mix(*began) else (first, second)
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed
        guilty = first if first.reach > ALONE else second
        noted = first if first.statistics else second
        return cls(
            first.reach, second.reach, guilty.others, _name(guilty.op), _place(guilty.op),
            _name(noted.statistics), _place(noted.statistics), first.by_design or second.by_design,
        )  # fmt: skip


def _ways(subject: Any) -> tuple[_Walk, _Walk]:
    """(from the data to z, from z to the output)."""
    lineage = subject.lineage
    fixed = {lineage.eps: noise_like(lineage)} if lineage.eps >= 0 else {}
    first = _walk(subject, lineage.data, lineage.z, fixed, 0)
    return first, _walk(subject, lineage.z, lineage.output, {}, first.count)


def _mix(first: _Walk, second: _Walk) -> bool:
    return first.reach > ALONE or second.reach > ALONE


@dataclass
class _Walk:
    """From `source` to `sink`, one example of `source` replaced at a time."""

    reach: float = math.nan
    others: float = 0.0
    count: int = 0  # examples
    op: Op | None = None
    statistics: Op | None = None
    by_design: str = ""


def _walk(subject: Any, source: int, sink: int, fixed: dict[int, Tensor], count: int) -> _Walk:
    with torch.no_grad():
        runner = _Runner(subject, source, sink, fixed)
        pairs = runner.pairs(count)
        ways = {axis: runner.influence([sink], axis)[sink] for axis in dict.fromkeys(a for a, _ in pairs)}
        reaches = {  # an example at which all units are dead reaches nothing and shows nothing
            (a, c): _reach(live, runner.size(a), c) for a, c in pairs if (live := [m for m in ways[a][0] if m.any()])
        }
        if not reaches:
            return _Walk()
        best = min(reaches, key=lambda pair: reaches[pair])
        if reaches[best] <= ALONE:
            return _Walk(reaches[best], count=runner.size(best[0]))
        best = next(iter(reaches))  # no axis is clean: the most likely one counts examples
        n = runner.size(best[0])
        found = _Walk(reaches[best], _others(ways[best[0]][1], n), n)
        _located(subject, runner, best, found)
    return found


class _Runner:
    """Replays with one example of `source` replaced."""

    def __init__(self, subject: Any, source: int, sink: int, fixed: dict[int, Tensor]) -> None:
        self.subject, self.source, self.sink, self.fixed = subject, source, sink, fixed
        self.slots = subject.tape.slots
        self.value = subject.replay.run([source], feed=self._fed({}), training=False)[source]
        self.edits: dict[int, Callable[[int], Callable[[Tensor], Tensor]]] = {}

    def _fed(self, more: dict[int, Tensor]) -> dict[int, Tensor]:
        return {**{s: v.clone() for s, v in self.fixed.items()}, **more}

    def size(self, axis: int) -> int:
        return int(self.value.shape[axis])

    def pairs(self, count: int) -> list[tuple[int, int]]:
        """(Axis of the source, axis of the sink) that may both count examples: of one size, else of a multiple of it."""
        shape, to = tuple(self.value.shape), self.slots[self.sink].shape
        exact: list[tuple[int, int]] = []
        several: list[tuple[int, int]] = []
        for axis, n in enumerate(shape[:2]):
            for other, size in enumerate(to):
                if n < 2 or size % n or (count and n % count) or (other == len(to) - 1 > 0 and len(shape) * axis != 2):
                    continue  # the last axis of z holds its units; [features, examples] has two axes
                (exact if size == n else several).append((axis, other))
        return exact or several

    def influence(self, targets: list[int], axis: int) -> dict[int, tuple[list[Tensor], list[Tensor]]]:
        """Target -> (what changes with each sampled example, by how much)."""
        before = self._run(targets, self.value, -1)
        kept = {t: before[t].clone() for t in targets}
        found: dict[int, tuple[list[Tensor], list[Tensor]]] = {t: ([], []) for t in targets}
        for i in _sampled(self.size(axis)):
            after = self._run(targets, _replaced(self.value, axis, i), i)
            for t in targets:
                moved = (after[t].double() - kept[t].double()).abs()
                if not bool(torch.isfinite(moved).all()):
                    moved = torch.nan_to_num(moved, 0.0, 0.0, 0.0)
                size = float(kept[t].double().nan_to_num(0.0, 0.0, 0.0).abs().max()) if moved.numel() else 0.0
                top = float(moved.max()) if moved.numel() else 0.0
                found[t][0].append(moved > max(MOVED * top, 1e-11 * size))
                found[t][1].append(moved)
        return found

    def _run(self, targets: list[int], value: Tensor, example: int) -> dict[int, Tensor]:
        edit = {slot: make(example) for slot, make in self.edits.items()}
        result: dict[int, Tensor] = self.subject.replay.run(
            targets, feed=self._fed({self.source: value.clone()}), edit=edit, training=False
        )
        return result

    def hold(self, op: Op, axis: int) -> None:
        """From now on this batch statistic is what it is for the recorded batch."""
        if op.name != "batch_norm":
            for slot, value in self._run(list(op.outs), self.value, -1).items():
                self.edits[slot] = _always(value.clone())
            return
        given, out = op.reads[0], op.outs[0]
        own = dict(zip(_sampled(self.size(axis)), self.influence([given], axis)[given][0], strict=True))
        normalised = self._run([out], self.value, -1)[out].clone()

        def make(example: int) -> Callable[[Tensor], Tensor]:
            return lambda made: torch.where(own[example], made, normalised) if example in own else made

        self.edits[out] = make


def _always(value: Tensor) -> Callable[[int], Callable[[Tensor], Tensor]]:
    return lambda _example: lambda _made: value.clone()


def _sampled(n: int) -> list[int]:
    return sorted({0, 1, n // 2, n - 1})


def _replaced(value: Tensor, axis: int, i: int) -> Tensor:
    """`value` with example i replaced by the one that differs most from it."""
    rows = value.movedim(axis, 0)
    apart = (rows.double() - rows[i].double()).abs().reshape(rows.shape[0], -1).sum(1)
    k = int(apart.argmax())
    changed = value.clone()
    new = rows[k]
    if float(apart[k]) == 0 and value.is_floating_point():
        generator = torch.Generator().manual_seed(31 + i)
        new = new + torch.randn(new.shape, generator=generator, dtype=torch.float64)
    changed.select(axis, i).copy_(new)
    return changed


def _reach(masks: list[Tensor], n: int, axis: int) -> float:
    """Examples along `axis` of the sink that change with one example of the source, at most."""
    return max(float(_shadow(m, axis).sum()) * n / m.shape[axis] for m in masks)


def _shadow(mask: Tensor, axis: int) -> Tensor:
    return mask.movedim(axis, 0).reshape(mask.shape[axis], -1).any(1)


def _others(moved: list[Tensor], n: int) -> float:
    """Root mean square movement outside an example's own share, over that inside; the largest."""
    found = []
    for m in moved:
        ordered = m.flatten().sort(descending=True).values
        share = max(1, m.numel() // n)
        own, rest = ordered[:share], ordered[share:]
        found.append(float(rest.square().mean().sqrt() / own.square().mean().sqrt().clamp_min(1e-300)))
    return max(found)


def _located(subject: Any, runner: _Runner, pair: tuple[int, int], found: _Walk) -> None:
    """Fills in where examples mix; batch statistics on the way are held still, until something else is found."""
    deps, (axis, other) = subject.deps, pair
    between = deps.descendants([runner.source]) & deps.ancestors([runner.sink], stop={runner.source})
    ops = [op for op in subject.tape.ops if not between.isdisjoint(op.outs) and runner.source not in op.outs]
    slots = [o for op in ops for o in op.outs if o in between]
    whole, held, n = found.reach, None, runner.size(axis)
    for _ in range(MOST_FORGIVEN):
        masks = runner.influence(slots, axis)
        op = next((op for op in ops if any(o in masks and not _aligned(masks[o][0]) for o in op.outs)), None)
        op = op or next((op for op in ops if any(o in masks and _spreads(masks[o][0], n, axis) for o in op.outs)), None)
        found.reach = _reach(masks[runner.sink][0], n, other)
        if found.reach == 0 and held is not None:  # nothing of the example itself is left: a pool, no statistic
            found.reach, found.op, found.statistics = whole, held, None
        if op is None or found.reach <= ALONE or found.op is not None:
            return
        if op.name not in STATISTICS or found.others > 0.5:
            found.op = op
            found.by_design = _by_design(subject, op, runner, axis)
            return
        if op.name != "batch_norm" and not deps.encoded.isdisjoint(op.reads):
            found.statistics = found.statistics or op
        held = op
        runner.hold(op, axis)


def _spreads(masks: list[Tensor], n: int, axis: int) -> bool:
    """Does one example change several here, though not those that another changes (far apart in a large graph)?"""
    live = [m for m in masks if bool(m.any())]
    return bool(live) and live[0].dim() > axis and live[0].shape[axis] == n and _reach(live, n, axis) > ALONE


def _aligned(masks: list[Tensor]) -> bool:
    """Is there an axis along which what belongs to one example and what belongs to another lie apart?"""
    live = [m for m in masks if bool(m.any())]
    if len(live) < 2:
        return True
    for axis in range(live[0].dim()):
        shadows = [_shadow(m, axis) for m in live]
        if int(torch.stack([s.int() for s in shadows]).sum(0).max()) <= 1:
            return True
    return False


def _by_design(subject: Any, op: Op, runner: _Runner, axis: int) -> str:
    """A reason why rows are meant to exchange information here, or ""."""
    n, slots, deps = runner.size(axis), subject.tape.slots, subject.deps
    if op.name in _GRAPH:
        return "rows are the nodes of a graph"
    from_source = deps.descendants([runner.source])
    given = [
        r for r in op.reads if r not in from_source and r not in deps.parametric and slots[r].shape[-2:] == (n, n)
    ]  # fmt: skip
    if op.name in PRODUCTS and given:
        return "rows are the nodes of a graph"
    if slots[runner.sink].shape[-2:] == (n, n):
        return "the output compares pairs of rows"
    return ""


def _name(op: Op | None) -> str:
    return op.name.strip("_") if op is not None else ""


def _place(op: Op | None) -> Where | None:
    return Where(*op.place) if op is not None and op.place else None
