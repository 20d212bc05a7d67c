"""Columns that were each bent in a way of their own (a logarithm of some, then standardised): are samples bent back as far?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from whyvae.audit.links import interpolated

LEAST = 64  # rows of either, between which a curve is known
RIGHT = 1e-3  # of a column's variance: what straight lines between as many points miss of a curve


class Bent(NamedTuple):
    """`off`: squared distance between an example taken back as samples were and the example as it was, as a share of the
    column's variance, 1 at most, 0 for a column that does not vary, [features]; `made`, `real`: what is compared,
    [rows, features].
    """

    off: Tensor
    made: Tensor
    real: Tensor

    @property
    def attempted(self) -> bool:
        """Is some column taken back rightly? Who does that means these units for the others too."""
        return bool((self.off[self.real.std(0) > 0] < RIGHT).any())


def bent_back(given: Tensor, original: Tensor, left: Tensor, samples: Tensor) -> Bent | None:
    """How `samples` [m, features], made of what `left` torch [m, features], would come out for the examples that the model was
    `given` [n, features]; beside what these were before, `original` [n, features]. None where either is no rising function,
    column by column, or samples were left as they are.
    """
    if given.shape != original.shape or left.shape != samples.shape or given.shape[1:] != left.shape[1:]:
        return None
    if min(len(given), len(left)) < LEAST or torch.equal(left, samples):
        return None
    varied = given.std(0) * original.std(0) > 0
    pairs = [*_columns(given[:, varied], original[:, varied]), *_columns(left[:, varied], samples[:, varied])]
    if not pairs or not all(_rises(x, y) for x, y in pairs):
        return None
    curves = zip(given.unbind(1), left.unbind(1), samples.unbind(1), strict=True)
    made = torch.stack([interpolated(at, *_ordered(x, y)) for at, x, y in curves], 1)
    inside = ((given >= left.amin(0)) & (given <= left.amax(0))).double()
    error = ((made - original).square() * inside).sum(0) / inside.sum(0).clamp_min(1)
    off = (error / original.var(0).clamp_min(1e-300)).clamp_max(1)
    return Bent(off.where(varied, torch.zeros_like(off)), made, original)


def _columns(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(a.unbind(1), b.unbind(1), strict=True)


def _rises(x: Tensor, y: Tensor) -> bool:
    """Is y a rising function of x, to rounding?"""
    _, ordered = _ordered(x, y)
    return bool((ordered.diff() >= -1e-6 * (ordered[-1] - ordered[0]).abs()).all()) and bool(ordered[-1] > ordered[0])


def _ordered(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the order of x."""
    order = x.argsort()
    return x[order], y[order]
