"""Sequences of classes (tokens): is an example's target made of the classes that its own input holds?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whyvae.watch.dependencies import origin

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
    shown = _zeros_and_ones(got[source], wanted.shape[-1])
    if shown is None or shown.numel() != wanted.numel():
        return None
    inputs = [layout.sum(1) for layout in _layouts(shown, subject.batch)]
    targets = [layout.sum(1) for layout in _layouts(wanted, subject.batch)]
    pairs = [_without_padding(t, x) for t in targets for x in inputs]
    return max((_own(t, x) for t, x in pairs if _of_one_language(t, x)), default=None)


def _zeros_and_ones(data: Tensor, classes: int) -> Tensor | None:
    """What the encoder is shown as zeros and ones, [..., T, classes]; None where it is neither indices nor such already."""
    if data.dim() > 1 and not data.dtype.is_floating_point and int(data.min()) >= 0 and int(data.max()) < classes:
        return torch.nn.functional.one_hot(data.long(), classes).double()
    one_hot = data.dim() > 2 and data.shape[-1] == classes and bool(((data == 0) | (data == 1)).all())
    return data.double() if one_hot else None


def _layouts(hot: Tensor, batch: int) -> list[Tensor]:
    """Examples first, [batch, T, classes]; what was flattened is read both ways, one class an example (a label) not at all."""
    if hot.dim() > 2:
        whole = [hot] if hot.shape[0] == batch else [hot.transpose(0, 1)] if hot.shape[1] == batch else []
        return [layout.reshape(batch, -1, hot.shape[-1]) for layout in whole]
    if len(hot) % batch or len(hot) == batch:
        return []
    return [hot.reshape(batch, -1, hot.shape[-1]), hot.reshape(-1, batch, hot.shape[-1]).transpose(0, 1)]


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
    common = torch.stack([torch.minimum(row, inputs).sum(1) for row in targets])
    return float((common.diagonal() >= common.max(1).values).double().mean())
