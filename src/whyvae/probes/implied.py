"""The noise variance s that a loss implies: at a recorded step, at the first, at half the batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whyvae.audit.batch import at_batch_size
from whyvae.audit.cut import gradient, noise_like
from whyvae.audit.likelihood import Likelihood, audit_likelihood
from whyvae.audit.regulariser import Regulariser, audit_regulariser
from whyvae.watch.lineage import Lineage, NoVAE, find_as
from whyvae.watch.replay import Replay, ReplayFailed

APART = 0.2  # log of the ratio of two batch sizes: nearer ones magnify what else moves s
ESTIMATED = ("density", "error")  # families whose scale is read off a batch's residuals, or off spread and bend
UNKNOWN = "unknown"  # whose scale is none; but by which factor it changes is told by the pull
PROPORTIONAL = 1e-6  # of the pull: float64 replays agree to 1e-13, and terms of other examples move it by far more
ALIKE = 1e-6  # of s, read in two ways: as for pulls
STEADY = 1e-4  # of log s between two steps of one size; rounding moves it by 1e-6


def noise_variance_of(regulariser: Regulariser, likelihood: Likelihood | None) -> float:
    if likelihood is None or not likelihood.scale:
        return math.nan
    s = regulariser.weight / likelihood.scale
    if likelihood.family.startswith("laplace"):
        return 2 * s**2  # variance of a Laplace density of scale s
    return s * likelihood.delta if likelihood.family == "huber" else s


def at_first(subject: Any, last: float) -> float:
    """S at the earliest recorded step that can be audited (an annealed weight moves between the two)."""
    for step in subject.steps:
        if step is subject.main:
            return last
        try:
            return noise_variance_at(step, subject.lineage)
        except (NoVAE, ReplayFailed):
            continue
    return last


def noise_variance_at(step: Any, like: Lineage) -> float:
    """S at a recorded step, at the parameters of that time where they were kept, of the likelihood that `like` is of.

    Raises:
        NoVAE, ReplayFailed: the step cannot be audited.
    """
    lineage = find_as(step.tape, like)
    replay = Replay(step.tape, step.parameters) if step.parameters else Replay(step.tape)
    return noise_variance_of(audit_regulariser(lineage, replay), audit_likelihood(lineage, replay))


def at_half_batch(subject: Any, s: float, likelihood: Likelihood | None) -> float:
    """S of the same step with half of its batch: from a recorded step of another size where there is one.

    NaN where another term is found there, as in a table whose columns have a term each: s of one says nothing of another;
    and where a number in the step may be the batch or a width, and s depends on which.
    """
    seen = math.nan if likelihood is None or likelihood.family == UNKNOWN else power_between_sizes(subject)
    if not math.isnan(seen):
        return float(s * 0.5**seen)
    try:
        noise = noise_like(subject.lineage) if subject.lineage.eps >= 0 else None
        found = [_shrunk(*reading, likelihood, noise) for reading in at_batch_size(subject, 0.5)]
    except (NoVAE, ReplayFailed, ValueError, NotImplementedError):  # the last: sparse tensors are not cut in two
        return math.nan
    return found[0] if all(math.isclose(found[0], other, rel_tol=ALIKE) for other in found[1:]) else math.nan


def _shrunk(lineage: Lineage, replay: Replay, likelihood: Likelihood | None, noise: Tensor | None) -> float:
    """S of a step with fewer examples; `likelihood` is that of all of them, under this noise."""
    by_pull = likelihood is not None and likelihood.family in (*ESTIMATED, UNKNOWN)
    if likelihood is not None and by_pull and (pulled := _by_pull(lineage, replay, likelihood, noise)):
        regulariser = audit_regulariser(lineage, replay)
        return noise_variance_of(regulariser, pulled) if regulariser.weighed else math.nan
    there = audit_likelihood(lineage, replay)
    same = likelihood is not None and there is not None and there.family == likelihood.family
    return _audited(lineage, replay) if same else math.nan


def _by_pull(lineage: Lineage, replay: Replay, likelihood: Likelihood, noise: Tensor | None) -> Likelihood | None:
    """The likelihood with the scale it has for half the examples, from their pull on the same outputs (what else is decoded
    is so from the same noise): exact, where what the scale itself is was only estimated. None where the pulls are not
    proportional.
    """
    slot, pull = likelihood.meeting.output, likelihood.gradient
    shape = lineage.tape.slots[slot].shape
    if pull is None or shape[1:] != likelihood.output.shape[1:]:
        return None
    leaf = likelihood.output[: shape[0]].detach().clone().requires_grad_()
    alike = noise is not None and noise.shape[1:] == lineage.tape.slots[lineage.eps].shape[1:]
    drawn = (
        {lineage.eps: noise[: lineage.tape.slots[lineage.eps].shape[0]].clone()} if noise is not None and alike else {}
    )
    got = replay.run(list(lineage.tape.roots), feed={slot: leaf, **drawn}, attached=True)
    here, there = pull[: shape[0]], gradient(torch.stack([r.sum() for r in got.values()]).sum(), [leaf])
    ratio = float((there * here.flatten()).sum() / here.square().sum().clamp_min(1e-300))
    apart = float((there - ratio * here.flatten()).norm() / there.norm().clamp_min(1e-300))
    return replace(likelihood, scale=ratio * likelihood.scale) if ratio > 0 and apart < PROPORTIONAL else None


def power_between_sizes(subject: Any) -> float:
    """Exponent of the batch size in s, between a recorded step of another size (a last, smaller batch) and the ones
    before and after it, where these agree; NaN where every step has one size.
    """
    mine = subject.main.tape.shape_key()
    usual = [step for step in subject.steps if step.tape.shape_key() == mine and step.finite]
    for step in reversed(subject.steps):
        if not step.finite or len(step.tape.ops) != len(subject.tape.ops) or step.tape.shape_key() == mine:
            continue
        # on both sides: a weight that is annealed by epochs is the same in the next one and in the one after that
        around = [*[u for u in usual if u.index < step.index][-1:], *[u for u in usual if u.index > step.index][:1]]
        if len(around) < 2:
            continue
        try:
            size, there = _size_and_s(step, subject.lineage)
            (other, here), (_, beside) = (_size_and_s(one, subject.lineage) for one in around)
        except (NoVAE, ReplayFailed):
            continue
        if not there > 0 or not here > 0 or not beside > 0:
            continue
        moves = abs(math.log(here / beside)) > STEADY  # the weight is annealed, or the scale is learned
        if not moves and abs(math.log(size / other)) > APART:
            return math.log(there / here) / math.log(size / other)
    return math.nan


def _size_and_s(step: Any, like: Lineage) -> tuple[int, float]:
    """(examples, s) of a recorded step at the parameters it had."""
    lineage = find_as(step.tape, like)
    replay = Replay(step.tape, step.parameters) if step.parameters else Replay(step.tape)
    return step.tape.slots[lineage.z].shape[0], _audited(lineage, replay)


def _audited(lineage: Lineage, replay: Replay) -> float:
    likelihood, regulariser = audit_likelihood(lineage, replay), audit_regulariser(lineage, replay)
    if likelihood is None or not regulariser.weighed:
        return math.nan
    return noise_variance_of(regulariser, likelihood)
