"""Is the loss's target the very input, in the same order, in the same units?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.elements import mask
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.channels import channel_like
from whyvae.probes.data import by_example
from whyvae.probes.objective import audited_likelihood
from whyvae.probes.tokens import own_tokens
from whyvae.verdict import Where
from whyvae.watch.dependencies import PRODUCTS, origin

ALIKE = 1e-6  # of the largest number: digits of float32
MOST_ROWS = 128  # compared with each other as sets


@dataclass(frozen=True)
class TargetMatch(Probe):
    """The target the loss pulls towards (recovered from its gradient) against the encoder's input.

    `own_row`: share of examples whose target resembles their own input more than any other example's (chance is
    1 / batch). `exact`: the target is the input (or made from the same tensor). `slope`, `offset`: the affine map
    from input to target where one holds exactly.
    """

    comparable: bool
    exact: bool
    same_origin: bool
    own_row: float
    own_feature: float  # correlation of a feature with itself rather than with another, share
    slope: float
    offset: float
    affine: bool
    reordered: bool  # from the common origin, only one of the two was permuted, flipped or transposed
    broadcast: str
    batch: int
    at: Where | None
    repeated: bool = False  # all examples have one and the same target, and inputs of their own

    @classmethod
    def measure(cls, subject: Any) -> Self:
        likelihood = audited_likelihood(subject)
        if likelihood is None or likelihood.target is None:
            raise CannotMeasure("what the loss compares the output with was not found")
        place = likelihood.meeting.place
        at = Where(*place) if place else None
        blown = ""
        if likelihood.broadcast is not None:
            blown = f"output {list(likelihood.output.shape)} against target {list(likelihood.target.shape)} is blown up to {list(likelihood.broadcast)}"
        given, shown = _pair(subject, likelihood)
        target = likelihood.meeting.target
        if given is None or shown is None:
            nan, own = math.nan, own_tokens(subject, likelihood)
            if own is not None:
                same = _same_origin(subject, target)
                return cls(
                    True, False, same, own, nan, nan, nan, False, _reordered(subject, target), blown, subject.batch, at
                )
            return cls(False, False, False, nan, nan, nan, nan, False, False, blown, subject.batch, at)
        exact = bool(torch.allclose(given, shown, rtol=1e-5, atol=1e-7))
        slope, offset, left = _affine(shown, given)
        own = _own_row(given, shown)
        if own < 1 and not exact and _ever_another_order(subject, likelihood):
            own = 1.0
        return cls(
            True, exact, _same_origin(subject, target), own, _own_feature(given, shown), slope,
            offset, left < 1e-4, _reordered(subject, target), blown, given.shape[0], at,
            _repeated(given, shown),
        )  # fmt: skip


def _pair(subject: Any, likelihood: Any, batch: int = -1) -> tuple[Tensor | None, Tensor | None]:
    """(target, encoder input) in that of the kept batches, [n, D] each; None where the sizes do not let them be compared."""
    lineage = subject.lineage
    if lineage.data < 0 or not likelihood.target.dtype.is_floating_point or _of_pairs(subject):
        return None, None
    seen = mask(likelihood.gradient) if likelihood.gradient is not None else 1.0
    left_out = seen == 0 if isinstance(seen, Tensor) and seen.numel() == likelihood.target.numel() else None
    feed = subject.train[batch] if subject.train and left_out is None else {}  # what is left out is known of one step
    with torch.no_grad():
        got = subject.replay.run([lineage.data, likelihood.meeting.target], feed=feed)
    target, data = got[likelihood.meeting.target].double(), got[lineage.data].double()
    if likelihood.own_target is not None and not subject.train:
        target = likelihood.own_target
    if target.numel() % subject.batch:
        return None, None
    if target.numel() != data.numel():
        target = by_example(target, subject.batch)
        channel = None if left_out is not None or len(data) != subject.batch else channel_like(target, data)
        return (None, None) if channel is None else (target, channel)
    missing = ~torch.isfinite(data)  # the script fills such gaps in, or leaves them out of the loss: nothing to compare
    if left_out is not None:
        missing |= left_out.reshape(data.shape)
    data = torch.where(missing, target.reshape(data.shape), data)
    return by_example(target, subject.batch), by_example(data, subject.batch)


def _of_pairs(subject: Any) -> bool:
    """Is the output one number for every pair of examples (the links of a graph, from its nodes), and the data are not?"""
    lineage, deps = subject.lineage, subject.deps
    behind, above = deps.descendants([lineage.z]), deps.ancestors([lineage.output])
    size = subject.tape.slots[lineage.output].numel
    return not _same_origin(subject, lineage.target) and any(
        op.name in PRODUCTS and sum(r in behind for r in op.reads) > 1
        and any(o in above and subject.tape.slots[o].numel == size == subject.batch**2 for o in op.outs)
        for op in subject.tape.ops
    )  # fmt: skip


def _same_origin(subject: Any, target: int | None) -> bool:
    if target is None:
        return False
    return origin(subject.deps, target) == origin(subject.deps, subject.lineage.data)


_REORDERING = {
    "permute", "transpose", "T", "mT", "__get__", "flip", "fliplr", "flipud", "roll", "rot90", "sort", "swapaxes", "movedim", "t",
}  # fmt: skip


def _reordered(subject: Any, target: int | None) -> bool:
    deps = subject.deps

    def passed(slot: int | None) -> list[str]:
        names = []
        while slot is not None and (position := deps.producer.get(slot)) is not None:
            op = deps.tape.ops[position]
            if op.name in _REORDERING:
                names.append(op.name)
            slot = op.reads[0] if op.reads else None
        return names

    return passed(target) != passed(subject.lineage.data)


def _affine(x: Tensor, t: Tensor) -> tuple[float, float, float]:
    """T ~ slope * x + offset over all numbers: (slope, offset, relative residual)."""
    design = torch.stack([x.flatten(), torch.ones(x.numel(), dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(design, t.flatten()[:, None]).solution[:, 0]
    rest = t.flatten() - design @ solution
    return (
        float(solution[0]),
        float(solution[1]),
        float(rest.norm() / (t - t.mean()).norm().clamp_min(1e-300)),
    )


def _repeated(target: Tensor, data: Tensor) -> bool:
    return bool((target == target[:1]).all()) and not bool((data == data[:1]).all())


def _own_row(target: Tensor, data: Tensor) -> float:
    """Share of examples; where the target is one and the same for all, chance."""
    if _repeated(target, data):
        return 1 / len(target)
    if _of_one_set(target, data):
        return 1.0
    a, b = _standard(target - target.mean(0)), _standard(data - data.mean(0))
    best = (a @ b.T).argmax(1)
    own = (a @ b.T).diagonal()
    picked = (a @ b.T).gather(1, best[:, None])[:, 0]
    return float((own >= picked - 1e-9).double().mean())


def _of_one_set(target: Tensor, data: Tensor) -> bool:
    """Are the numbers of most examples those of their own target and of no other, each in an order of its own?

    So an encoder of sets is shown its points. One order for all examples would be a mistake: then the columns of both
    are the same.
    """
    if torch.equal(target, data):
        return False
    target, data = target[:MOST_ROWS], data[:MOST_ROWS]
    own, others = target.sort(1).values, data.sort(1).values
    digits = ALIKE * float(data.abs().max())
    same = (own - others).abs().amax(1) <= digits
    if not bool(same.double().mean() > 0.5):
        return False
    alone = same & ((torch.cdist(own, others, p=float("inf")) <= digits).sum(1) == 1)
    if not bool(alone.double().mean() > 0.5):
        return False
    one, two = (torch.unique(rows, dim=1) for rows in (target, data))
    return not (one.shape == two.shape and torch.allclose(one, two))


def _ever_another_order(subject: Any, likelihood: Any) -> bool:
    """Are the numbers of an example put in one order for all of a batch, and in another in the next: the points of a set?"""
    if len(subject.train) < 2:
        return False
    orders = []
    for batch in (-1, -2):
        target, data = _pair(subject, likelihood, batch)
        orders.append(None if target is None or data is None else _order(target, data))
    first, second = orders
    return first is not None and second is not None and not torch.equal(first, second)


def _order(target: Tensor, data: Tensor) -> Tensor | None:
    """Which column of `data` each column of `target` is, [D]; None where one is none of them, or two are alike."""
    columns, places = torch.unique(torch.cat([target, data], 1), dim=1, return_inverse=True)
    width = target.shape[1]
    if columns.shape[1] != width or not torch.equal(places[:width].sort().values, places[width:].sort().values):
        return None
    order: Tensor = places[width:].argsort()[places[:width]]
    return order


def _own_feature(target: Tensor, data: Tensor) -> float:
    """Share of (moving) features of the target that match their own input feature best."""
    if target.shape[0] < 8 or target.shape[1] > 4096:
        return math.nan
    live = (target.std(0) > 1e-9) & (data.std(0) > 1e-9)
    if int(live.sum()) < 2:
        return math.nan
    a, b = (
        _standard((target - target.mean(0))[:, live].T),
        _standard((data - data.mean(0))[:, live].T),
    )
    match = a @ b.T
    return float((match.diagonal() >= match.max(1).values - 1e-9).double().mean())


def _standard(rows: Tensor) -> Tensor:
    result: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return result
