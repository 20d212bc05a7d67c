"""How many numbers of an output the reconstruction term tells apart: read from its gradients at random outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.cut import gradient, head_values, noise_like
from whyvae.audit.likelihood import Likelihood
from whyvae.probe import Probe
from whyvae.probes.objective import audited_likelihood
from whyvae.watch.replay import ReplayFailed

TRIES = 16  # random outputs; gradients of a term that tells more numbers apart span as many directions
ALIKE = 1e-6  # relative: of sums, gradients agree to rounding (1e-12); of anything else they differ in the first digits


@dataclass(frozen=True)
class Sight(Probe):
    """A term of k functions of an output's numbers, sums of its errors say, has gradients in k directions only, wherever
    they are taken at, and leaves the output free in all others.

    `told_apart`: directions that gradients at TRIES random outputs span, of `touched` numbers that have a gradient, in
    the example where fewest are missing. `summed`: axes of the output (0: its examples) along which all gradients are
    constant. Of a likelihood that was recognised nothing needs to be tried: the defaults say that all is seen.
    """

    told_apart: int = TRIES
    touched: int = TRIES
    summed: tuple[int, ...] = ()

    @property
    def blind(self) -> bool:
        return self.told_apart < self.expected or self.summed != ()

    @property
    def expected(self) -> int:
        """Directions of a term that is smallest at the target alone."""
        return min(TRIES, self.touched)

    @classmethod
    def measure(cls, subject: Any) -> Self:
        likelihood = audited_likelihood(subject)
        if likelihood is None or likelihood.family not in {"unknown", "density"} or likelihood.meeting.features:
            return cls()
        if likelihood.target is None or likelihood.target.numel() != likelihood.output.numel():
            return cls()
        try:
            pulls, of_target = _pulls(subject, likelihood, likelihood.target)
        except ReplayFailed:
            return cls()
        size = float(pulls.abs().max())
        if not 0 < size < math.inf or not float((pulls + of_target).abs().max()) < ALIKE * size:
            return cls()  # no function of a difference, so nothing that could be a sum of differences
        return cls(*_ranks(pulls.flatten(2).movedim(1, 0)), _summed(pulls))


def _pulls(subject: Any, likelihood: Likelihood, target: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the loss in output and target, at outputs with random errors about the target, of the size of its
    range. Each is [tries, examples, ...].
    """
    lineage, replay = subject.lineage, subject.replay
    roots, output = list(dict.fromkeys(subject.tape.roots)), likelihood.meeting.output
    at = dict(zip(lineage.heads, head_values(lineage, replay), strict=True))
    if lineage.eps >= 0:
        at[lineage.eps] = noise_like(lineage)
    low, high = float(target.min()), float(target.max())
    generator = torch.Generator().manual_seed(17)
    found = []
    for _ in range(TRIES):
        error = (high - low) * torch.randn(target.shape, generator=generator, dtype=torch.float64)
        aim = target.double()
        leaves = [(aim + error).reshape(likelihood.output.shape).requires_grad_(), aim.clone().requires_grad_()]
        fed = {s: v.clone() for s, v in at.items()} | {output: leaves[0], likelihood.meeting.target: leaves[1]}
        got = replay.run(roots, feed=fed)
        loss = torch.stack([got[r].sum() for r in roots]).sum()
        found.append(gradient(loss, leaves).split([leaf.numel() for leaf in leaves]))
    shape = (TRIES, *likelihood.output.shape)
    ours, theirs = (torch.stack(parts).reshape(shape) for parts in zip(*found, strict=True))
    return ours, theirs


def _ranks(rows: Tensor) -> tuple[int, int]:
    """(directions, numbers with a gradient) of the example where the fewest directions are missing; of
    [examples, tries, numbers]. Each number is taken in units of its largest gradient: a small one is seen too.
    """
    largest = rows.abs().amax(1, keepdim=True)
    sizes = torch.linalg.svdvals(torch.where(largest > 0, rows / largest, 0.0))
    ranks = (sizes > ALIKE * sizes[:, :1]).sum(1)
    touched = (largest[:, 0] > 0).sum(1)
    example = int((touched.clamp_max(TRIES) - ranks).argmin())
    return int(ranks[example]), int(touched[example])


def _summed(pulls: Tensor) -> tuple[int, ...]:
    size = float(pulls.abs().max())
    return tuple(
        axis - 1
        for axis in range(1, pulls.dim())
        if pulls.shape[axis] > 1 and float((pulls - pulls.mean(axis, keepdim=True)).abs().max()) < ALIKE * size
    )
