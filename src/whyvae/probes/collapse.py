"""The collapse threshold of a loss whose likelihood has no name: how its scores vary at the best output that is one for all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whyvae.audit.cut import head_values, noise_like
from whyvae.audit.likelihood import Likelihood
from whyvae.watch.dependencies import Dependencies

MOST = 256  # numbers of an output: the second derivative has their square
MOST_FEEDS = 8
ITERATIONS = 60  # of the search for the best constant output
POSITIVE = 1e-9  # of the largest curvature


def score_spectrum(subject: Any, likelihood: Likelihood, feeds: list[dict[int, Tensor]]) -> Tensor | None:
    """Eigenvalues of F^-1 J, largest first, in units of an effective beta; None where there are none to be had.

    J is the covariance of the score, F its mean slope, both at the best output that does not depend on z. A KL of more
    weight than the largest has the collapsed model for an optimum, whatever the likelihood (White 1982).
    """
    slot = _unbounded(subject.deps, likelihood.meeting.output)
    count = subject.tape.slots[slot].numel // max(1, subject.batch)
    if subject.tape.slots[slot].shape[0] != subject.batch or not 1 < count <= MOST:
        return None
    losses = [_Loss(subject, feed, slot) for feed in feeds[:MOST_FEEDS]]
    with torch.no_grad():
        start = subject.replay.run([slot], feed=feeds[0])[slot].double().mean(0, keepdim=True)
    best = _best(losses, start)
    scores = torch.cat([loss.scores(best) for loss in losses]) * subject.batch  # as if each example were the batch
    slope: Tensor = torch.autograd.functional.hessian(
        lambda at: torch.stack([loss(at) for loss in losses]).mean(), best
    )
    slope = slope.reshape(count, count)
    if not (torch.isfinite(scores).all() and torch.isfinite(slope).all()):
        return None
    values, vectors = torch.linalg.eigh(slope)
    if float(values[0]) < -POSITIVE * float(values[-1]) or not float(values[-1]) > 0:
        return None
    kept = values > POSITIVE * values[-1]
    white = (scores - scores.mean(0)) @ (vectors[:, kept] / values[kept].sqrt())
    found: Tensor = torch.linalg.svdvals(white).square() / ((white.shape[0] - 1) * likelihood.scale * subject.batch)
    return found


def _unbounded(deps: Dependencies, slot: int) -> int:
    """The output before its activations, which may be any number: a search must not leave what the likelihood allows."""
    slots = deps.tape.slots
    while (position := deps.producer.get(slot)) is not None and not deps.is_mixing(deps.tape.ops[position]):
        above = [r for r in deps.tape.ops[position].reads if r in deps.encoded and slots[r].numel == slots[slot].numel]
        if len(set(above)) != 1:
            break
        slot = above[0]
    return slot


class _Loss:
    """The loss of one recorded batch as a function of its outputs."""

    def __init__(self, subject: Any, feed: dict[int, Tensor], slot: int) -> None:
        self.replay, self.lineage, self.batch, self.slot = subject.replay, subject.lineage, subject.batch, slot
        self.roots = list(dict.fromkeys(subject.tape.roots))
        heads = head_values(self.lineage, self.replay, feed)
        self.feed = {**feed, **dict(zip(self.lineage.heads, heads, strict=True))}
        if self.lineage.eps >= 0:
            self.feed[self.lineage.eps] = noise_like(self.lineage)

    def at(self, outputs: Tensor) -> Tensor:
        got: dict[int, Tensor] = self.replay.run(
            self.roots, feed={**{s: v.clone() for s, v in self.feed.items()}, self.slot: outputs}
        )
        return torch.stack([got[root].sum() for root in self.roots]).sum()

    def __call__(self, output: Tensor) -> Tensor:
        """Of one output [1, ...] for all examples."""
        return self.at(output.expand(self.batch, *output.shape[1:]))

    def scores(self, output: Tensor) -> Tensor:
        """Its slope in the output of each example, [batch, numbers]."""
        outputs = output.detach().expand(self.batch, *output.shape[1:]).clone().requires_grad_()
        slopes: Tensor = torch.autograd.grad(self.at(outputs), outputs)[0]
        return slopes.flatten(1)


def _best(losses: list[_Loss], start: Tensor) -> Tensor:
    output = start.clone().requires_grad_()
    search = torch.optim.LBFGS([output], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss: Tensor = torch.stack([one(output) for one in losses]).mean() * losses[0].batch
        (output.grad,) = torch.autograd.grad(loss, output)
        return loss

    search.step(closure)
    best: Tensor = output.detach()
    return best
