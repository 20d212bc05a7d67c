"""Sequences of classes (tokens): is an example's target made of the classes that its own input holds?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whyvae.watch.dependencies import origin

MOST = 256  # examples that are compared with each other
FEW = 8  # examples of a batch below which chance makes many resemble their own
ALIKE = 2.0  # times what two halves of the inputs differ by: other sequences of the same language differ by less


def own_tokens(subject: Any, likelihood: Any) -> float | None:
    """Share of examples whose target has as many classes in common with their own input as with any other's.

    Order is left out: a model of the next token is shown its target a place later. None where input or target are no
    sequences of classes, are of other lengths, or of different languages (a translation).
    """
    if subject.batch < FEW or subject.lineage.data < 0 or not likelihood.family.startswith("categorical"):
        return None
    source, target = origin(subject.deps, subject.lineage.data), likelihood.meeting.target
    got = subject.replay.run([source, target])
    wanted = likelihood.numbers(got[target])
    tokens = _tokens(got[source], wanted.shape[-1])
    if tokens is None or tokens.numel() * wanted.shape[-1] != wanted.numel():
        return None
    rows = tokens if len(tokens) == subject.batch else tokens.transpose(0, 1)
    if len(rows) != subject.batch:
        return None
    shown = torch.zeros(subject.batch, wanted.shape[-1], dtype=torch.float64)
    shown.scatter_add_(1, rows.reshape(subject.batch, -1), torch.ones(rows.shape, dtype=torch.float64).flatten(1))
    pairs = [_without_padding(counts, shown) for counts in _counts(wanted, subject.batch)]
    return max((_own(t, x) for t, x in pairs if _of_one_language(t, x)), default=None)


def _tokens(data: Tensor, classes: int) -> Tensor | None:
    """What the encoder is shown as indices of classes, [batch, T] or [T, batch]; None where it is neither such nor one-hot."""
    if data.dim() == 2 and not data.dtype.is_floating_point and int(data.min()) >= 0 and int(data.max()) < classes:
        return data.long()
    one_hot = data.dim() == 3 and data.shape[-1] == classes and bool(((data == 0) | (data == 1)).all())
    return data.argmax(-1) if one_hot and bool((data.sum(-1) == 1).all()) else None


def _counts(hot: Tensor, batch: int) -> list[Tensor]:
    """How often each class stands in each target, [batch, classes], of zeros and ones with the classes last; what was flattened
    is read both ways, one class an example (a label) not at all.
    """
    classes = hot.shape[-1]
    if hot.dim() > 2:
        first = hot if len(hot) == batch else hot.transpose(0, 1)
        return [first.reshape(batch, -1, classes).sum(1)] if len(first) == batch else []
    if len(hot) % batch or len(hot) == batch:
        return []
    return [hot.reshape(batch, -1, classes).sum(1), hot.reshape(-1, batch, classes).sum(0)]


def _without_padding(targets: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Counts [n, classes] of the classes of which the loss takes notice."""
    asked = targets.sum(0) > 0
    return targets[:, asked], inputs[:, asked]


def _of_one_language(targets: Tensor, inputs: Tensor) -> bool:
    """Do both use the classes as often as two halves of the inputs do? Counts [n, classes]."""
    halves = (_use(inputs[::2]) - _use(inputs[1::2])).abs().sum()
    return bool((_use(targets) - _use(inputs)).abs().sum() <= ALIKE * halves)


def _use(counts: Tensor) -> Tensor:
    total: Tensor = counts.sum(0)
    return total / total.sum().clamp_min(1)


def _own(targets: Tensor, inputs: Tensor) -> float:
    targets, inputs = targets[:MOST], inputs[:MOST]
    common = torch.stack([torch.minimum(row, inputs).sum(1) for row in targets])
    return float((common.diagonal() >= common.max(1).values).double().mean())
