"""What an output says of x itself, for each family: the mean it stands for, and the output that stands for a mean."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-4  # of a probability that an output is to stand for: its logarithm stays finite
CLASSES = ("categorical", "categorical probabilities", "multinomial", "multinomial probabilities")


def in_data_space(family: str, output: Tensor, axis: int = -1) -> Tensor:
    """The mean of x that an output stands for, in the shape of the output; `axis` is that of classes.

    Of counts that a softmax shares out it is the share of each.
    """
    if family == "bernoulli logits":
        return output.sigmoid()
    if family.startswith("continuous bernoulli"):
        return continuous_mean(output if family.endswith("logits") else output.clamp(1e-7, 1 - 1e-7).logit())
    if family in {"categorical", "multinomial"}:
        return output.softmax(axis)
    return output.exp() if family == "poisson" else output


def from_data_space(family: str, mean: Tensor) -> Tensor:
    """An output that stands for this mean of x, classes last; the inverse of `in_data_space` where there is one."""
    probability = mean.clamp(LEAST, 1 - LEAST)
    if family == "bernoulli":
        return probability
    if family == "bernoulli logits":
        return probability.logit()
    if family in CLASSES:
        shares = probability / probability.sum(-1, keepdim=True)
        return shares if family.endswith("probabilities") else shares.log()
    if family == "poisson rates":
        return mean.clamp_min(LEAST)
    return mean.clamp_min(LEAST).log() if family == "poisson" else mean


def continuous_mean(logits: Tensor) -> Tensor:
    """Mean of the continuous Bernoulli, 1 + 1 / (e^l - 1) - 1 / l (Loaiza-Ganem & Cunningham 2019)."""
    near = logits.abs() < 1e-3  # the series 1/2 + l/12 there
    safe = torch.where(near, torch.ones_like(logits), logits)
    return torch.where(near, 0.5 + logits / 12, 1 + 1 / torch.expm1(safe) - 1 / safe)


def interpolated(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The piecewise linear function through the points (x, y), x rising [k], at `at`; flat beyond its ends."""
    if x.numel() < 2:
        return torch.full_like(at, float(y[0]))
    right = torch.searchsorted(x, at.contiguous()).clamp(1, x.numel() - 1)
    left = right - 1
    share = ((at - x[left]) / (x[right] - x[left]).clamp_min(1e-300)).clamp(0, 1)
    return y[left] + share * (y[right] - y[left])


def class_axis(output: Tensor, target: Tensor) -> int:
    """The axis of `output` that counts classes, where `target` holds indices of them."""
    fits = [a for a in (1, output.dim() - 1) if output.shape[:a] + output.shape[a + 1 :] == target.shape]
    return fits[0] if fits and fits[0] < output.dim() - 1 else -1


def one_hot(target: Tensor, output: Tensor, axis: int) -> Tensor:
    """`target`, class indices, as zeros and ones in the shape of `output`; zeros where an index is negative (ignored)."""
    classes = output.shape[axis]
    hot = torch.nn.functional.one_hot(target.long().clamp_min(0), classes).to(output)
    hot = hot * (target >= 0).to(output)[..., None]
    return hot.movedim(-1, axis) if axis != -1 else hot.reshape(output.shape)
