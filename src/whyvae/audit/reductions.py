"""How the two terms of a loss were reduced (mean or sum), followed along the tape."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from whyvae.watch.dependencies import LOSSES, Dependencies
from whyvae.watch.lineage import Lineage
from whyvae.watch.tape import Op, Ref

TIMES = frozenset({"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply"})
OVER = frozenset({"div", "div_", "__truediv__", "__itruediv__", "true_divide"})


@dataclass(frozen=True, slots=True)
class Reductions:
    """By how much each term was averaged: the product of the counts its means and integer divisions divide by."""

    reconstruction: float
    regulariser: float

    @property
    def ratio(self) -> float:
        """> 1: the reconstruction is averaged over more than the KL is."""
        return self.reconstruction / self.regulariser


def reductions(deps: Dependencies, lineage: Lineage) -> Reductions:
    output = lineage.output
    reconstruction = _path(deps, [output], avoid=set()) if output >= 0 else []
    regulariser = _path(deps, list(lineage.heads), avoid={output, lineage.z, *lineage.chain} - set(lineage.heads))
    if not regulariser:  # a Monte-Carlo KL goes through z
        regulariser = _path(deps, [lineage.z], avoid={output})
    counts, widths = _counts(deps, lineage), _widths(deps, lineage)
    return Reductions(_divided(deps, reconstruction, counts, widths[0]), _divided(deps, regulariser, counts, widths[1]))


def _path(deps: Dependencies, start: list[int], avoid: set[int]) -> list[Op]:
    """The ops of one shortest way from `start` to a root, not through `avoid`."""
    came: dict[int, tuple[int, int] | None] = dict.fromkeys(start)
    queue = deque(start)
    roots = set(deps.tape.roots)
    while queue:
        slot = queue.popleft()
        if slot in roots:
            return _unwound(deps, came, slot)
        for position in deps.readers.get(slot, []):
            op = deps.tape.ops[position]
            for out in (*op.outs, *op.writes):
                if out not in came and out not in avoid:
                    came[out] = (slot, position)
                    queue.append(out)
    return []


def _unwound(deps: Dependencies, came: dict[int, tuple[int, int] | None], slot: int) -> list[Op]:
    ops = []
    step = came[slot]
    while step is not None:
        ops.append(deps.tape.ops[step[1]])
        step = came[step[0]]
    return ops[::-1]


def _counts(deps: Dependencies, lineage: Lineage) -> set[float]:
    """The numbers that a division by stands for averaging: batch, features, latents and their products."""
    batch, (features, latents) = _batch(deps, lineage), _widths(deps, lineage)
    return {float(n) for n in (batch, features, latents, batch * features, batch * latents) if n > 1}


def _widths(deps: Dependencies, lineage: Lineage) -> tuple[int, int]:
    """(features, latents) of an example."""
    slots = deps.tape.slots
    features = slots[lineage.output].numel // max(1, _batch(deps, lineage)) if lineage.output >= 0 else 1
    return features, max(1, lineage.latents)


def _batch(deps: Dependencies, lineage: Lineage) -> int:
    shape = deps.tape.slots[lineage.z].shape
    return shape[0] if shape else 1


def _divided(deps: Dependencies, path: list[Op], counts: set[float], width: int) -> float:
    """By how much `path` averages. A mean times the numbers of an example (`mse.mean() * 784`) is a sum over these."""
    total, averaged = 1.0, False  # over the numbers of an example
    for op in path:
        if op.name in {"mean", "nanmean"} or op.name in LOSSES:
            over = _mean_over(deps, op)
            total, averaged = total * over, averaged or (over >= width and _whole(deps, op, width))
        elif averaged and _times(op, width):
            total, averaged = total / width, False
        else:
            total *= _quotient(op, counts)
    return total


def _whole(deps: Dependencies, op: Op, width: int) -> bool:
    """Does `op` still read all numbers of every example?"""
    shape = deps.tape.slots[op.reads[0]].shape
    return deps.tape.slots[op.reads[0]].numel >= width * (shape[0] if shape else 1) > 1


def _times(op: Op, width: int) -> bool:
    factor = _factor(op)
    return factor is not None and abs(factor - width) < 1e-6 * width


def _factor(op: Op) -> float | None:
    """The one number that `op` multiplies by; of a division its reciprocal."""
    if op.name not in TIMES | OVER:
        return None
    numbers = [a for a in op.args if isinstance(a, (int, float)) and not isinstance(a, (bool, Ref))]
    if len(numbers) != 1 or numbers[0] == 0:
        return None
    return float(numbers[0]) if op.name in TIMES else 1 / float(numbers[0])


def _mean_over(deps: Dependencies, op: Op) -> float:
    slots = deps.tape.slots
    if op.name in LOSSES:
        if op.kwargs.get("reduction", "mean") != "mean" or op.kwargs.get("size_average") is False:
            return 1.0
        target = op.reads[1] if len(op.reads) > 1 else op.reads[0]
        return float(slots[target].numel if op.name in {"cross_entropy", "nll_loss"} else slots[op.reads[0]].numel)
    return slots[op.reads[0]].numel / max(1, slots[op.outs[0]].numel)


def _quotient(op: Op, counts: set[float]) -> float:
    factor = _factor(op)
    near = next((c for c in counts if factor is not None and abs(1 / factor - c) < 1e-6 * c), None)
    return near if near is not None else 1.0
