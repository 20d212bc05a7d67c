"""Psi of each family of likelihoods: the gradient at the output, for a scale of 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whyvae.audit.links import class_axis, continuous_mean, in_data_space, one_hot

NORMALISED = 1e-6  # how far shares may be from a sum of 1
CLAMPED = 1e-3  # for each class: how far from a sum of 1 probabilities are that a guard keeps from 0 and 1


@dataclass(frozen=True, slots=True)
class Psi:
    """The gradient that a family of scale 1 has at the output; `values` have the shape of the output."""

    family: str
    values: Tensor
    delta: float = 1.0  # of a Huber error
    axis: int = -1  # of classes
    trials: float = 1.0  # counts that a softmax shares out, on average
    left_out: int | None = None  # class that marks a position which is not counted
    unmarked: bool = False  # some positions are not counted, and the target does not say which


def candidates(output: Tensor, target: Tensor | None, g: Tensor) -> list[Psi]:
    """Every family that this output and target could be of, in the order of preference on a tie; `g` is the gradient."""
    if target is None:
        return []
    if class_indices(output, target):
        return _of_indices(output, target, g)
    found = _continuous(output, target)
    if target.numel() == output.numel():
        found += _of_shares(output, target.reshape(output.shape).double())
    return found + _huber(found, g)


def class_indices(output: Tensor, target: Tensor | None) -> bool:
    return target is not None and not target.dtype.is_floating_point and target.numel() < output.numel()


def _of_indices(output: Tensor, target: Tensor, g: Tensor) -> list[Psi]:
    axis = class_axis(output, target)
    classes = output.shape[axis]
    if output.numel() != target.numel() * classes or int(target.max()) >= classes:
        return []
    counted = (g != 0).any(axis)  # padding that the loss leaves out (`ignore_index`) has no gradient
    at = target.reshape(counted.shape)
    marks = at[~counted].unique()
    marked = marks.numel() == 1 and not bool((at[counted] == marks[0]).any())
    hot = one_hot(target, output, axis) * counted.to(g).unsqueeze(axis)
    psis = _of_classes("categorical", output, hot, axis, 1.0)
    return [
        replace(p, left_out=int(marks[0]) if marked else None, unmarked=not (marked or bool(counted.all())))
        for p in psis
    ]


def _of_shares(output: Tensor, target: Tensor) -> list[Psi]:
    """Classes marked by ones, or counts of each, shared out by a softmax along any axis but the first."""
    found: list[Psi] = []
    if bool((target < 0).any()):
        return found
    for axis in range(output.dim() - 1, 0, -1):
        totals = target.sum(axis)
        if output.shape[axis] < 2 or not bool((totals > 0).any()):
            continue
        one = bool(((totals - 1).abs() < NORMALISED).all())
        found += _of_classes("categorical" if one else "multinomial", output, target, axis, float(totals.mean()))
    return found


def _of_classes(family: str, output: Tensor, hot: Tensor, axis: int, trials: float) -> list[Psi]:
    totals = hot.sum(axis, keepdim=True)
    psis = [Psi(family, output.softmax(axis) * totals - hot, axis=axis, trials=trials)]
    if bool((output.logsumexp(axis).abs() < CLAMPED * output.shape[axis]).all()):
        psis.append(Psi(family, -hot, axis=axis, trials=trials))
    if bool(((output.sum(axis) - 1).abs() < CLAMPED * output.shape[axis]).all()) and bool((output >= 0).all()):
        values = -hot / output.clamp_min(1e-12)
        psis.append(Psi(f"{family} probabilities", values, axis=axis, trials=trials))
    return psis


def _continuous(output: Tensor, target: Tensor) -> list[Psi]:
    t = as_met(output, target)
    if t is None:
        return []
    if t.shape != output.shape:
        return [Psi("batch mean", output - _averaged(t, output))]
    y, r = output, output - t
    found = [Psi("gaussian", r)]
    if bool((y >= 0).all() and (y <= 1).all()):
        found += _of_probabilities(y, t)
    found += [
        Psi("bernoulli logits", y.sigmoid() - t),
        Psi("continuous bernoulli logits", continuous_mean(y) - t),
        Psi("laplace", r.sign()),
    ]
    found += [Psi("huber", (r / delta).clamp(-1, 1), delta) for delta in (1.0, 0.5, 0.1, 0.05, 0.01)]
    found += [Psi("log-cosh", r.tanh()), Psi("poisson", y.exp() - t)]
    if bool((y > 0).all()):
        found.append(Psi("poisson rates", 1 - t / y))
    return found


def as_met(output: Tensor, target: Tensor) -> Tensor | None:
    """The target in the shape it meets the output in: several outputs may share one (samples of a posterior)."""
    if target.numel() == output.numel():
        return target.reshape(output.shape).double()
    try:
        return target.double().expand(torch.broadcast_shapes(target.shape, output.shape))
    except RuntimeError:
        return None


def _of_probabilities(y: Tensor, t: Tensor) -> list[Psi]:
    spread = (y * (1 - y)).clamp_min(1e-12)
    found = [
        Psi("bernoulli", (y - t) / spread),
        Psi("continuous bernoulli", (in_data_space("continuous bernoulli", y) - t) / spread),
    ]
    guard = 1e-8
    swapped = [((1 - t).clamp_min(0) + guard).log() - (t.clamp_min(0) + guard).log()]
    for kept in (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3):  # targets kept from 0 and 1
        inner = t.clamp(kept, 1 - kept)
        swapped.append((1 - inner).log() - inner.log())
    return found + [Psi("swapped bernoulli", values) for values in swapped]


def _huber(found: list[Psi], g: Tensor) -> list[Psi]:
    """The Huber error whose delta the gradient itself shows: it grows with the error and stays at its largest."""
    by = {psi.family: psi.values for psi in found}
    if "laplace" not in by:
        return []
    r, size = by["gaussian"], g.abs()
    growing = (size < 0.9 * size.max()) & (r.abs() > 0)
    if not growing.any():
        return []
    delta = float(size.max() / (size[growing] / r.abs()[growing]).median())
    return [Psi("huber", (r / delta).clamp(-1, 1), delta)] if delta > 0 else []


def _averaged(target: Tensor, output: Tensor) -> Tensor:
    """Mean of the blown-up target over the axes along which the output was repeated."""
    axes = [
        i for i in range(target.dim())
        if i - (target.dim() - output.dim()) < 0 or output.shape[i - (target.dim() - output.dim())] == 1
    ]  # fmt: skip
    return (
        target.mean(axes, keepdim=True)
        .reshape([1 if i in axes else n for i, n in enumerate(target.shape)])
        .expand(output.shape)
        if target.dim() == output.dim()
        else target.mean(0)
    )
