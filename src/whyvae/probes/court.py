"""What parameters are worth: the recorded step's loss on given batches, with the same noise whenever it is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from whyvae.probes.course import Course, Feed
from whyvae.probes.gaps import left_out
from whyvae.probes.objective import Objective, audited_likelihood

OVERSAMPLED = 8  # directions beyond those wanted: the last ones of a randomised SVD are inexact
FIRST_NOISE = 50_000  # numbers of noise draws that no course trains with


class Court:
    """Judges the parameters that `course` holds against those it held when the court was called, batch by batch.

    In nats per example where the weight of the KL is known. A noise variance below the squared error is then read
    as that error: the likelihood is maximised over all variances from s upwards, so that halving an error counts the
    same at every tiny s, and the KL keeps the weight that it has in the script against that.
    """

    def __init__(self, course: Course, objective: Objective, feeds: Sequence[Feed], noises: int) -> None:
        self.course, self.objective, self.feeds, self.noises = course, objective, list(feeds), noises
        known = objective.weight_known and objective.regulariser.weight > 0
        self.unit = "nats" if known else "units of the loss"
        self.batch = max(1, course.subject.batch)
        self.scale = 1 / (objective.regulariser.weight * self.batch) if known else 1.0
        self.variance = objective.noise_variance if known and objective.family.startswith("gaussian") else math.nan
        self.likelihood = audited_likelihood(course.subject)
        self.gaps = [left_out(course.subject, feed) for feed in self.feeds] if self.variance > 0 else []
        self._start = self._asked({})
        self.kl_weight = self._kl_weight()

    def _kl_weight(self) -> float:
        """What a nat of KL weighs against one of the likelihood whose variance is the squared error: s over that error,
        if s is below it. A light KL is hardly trained on, so that what it happens to be is no success of a training. Read
        off the recorded step, so that courts over different batches judge alike. A variance that is learned is on its
        way to the error; where the KL counts once beside it, nats are what they are.
        """
        apart = None if self.likelihood is None else self.likelihood.error
        if not self.variance > 0 or apart is None or (self.objective.learned_scale and self.objective.counted_once):
            return 1.0
        error = float(apart.square().mean())
        return 1 / max(1.0, error / self.variance)

    def costs(self) -> Tensor:
        """The loss of each batch now, [feeds]."""
        return self._cost(self._asked({}))

    def gained(self) -> Tensor:
        """Of each batch: loss at the start minus loss now, [feeds]."""
        return self._cost(self._start) - self.costs()

    def achieved(self) -> float:
        """The loss with the best constant output minus the loss, both at the start; NaN where none is known."""
        constant = self._constant()
        if constant is None:
            return math.nan
        without = self._asked({self.course.subject.lineage.output: constant})
        if math.isfinite(self.variance) and self.objective.learned_scale:  # it would have learned another scale
            return float((without[1] / self._start[1]).log().mean()) * self.objective.features / 2
        return float((self._cost(without) - self._cost(self._start)).mean())

    def offered(self) -> float:
        """As `achieved`, of the best linear reconstruction with as many latents; NaN where none is known.

        What the data are worth to any decoder that is not too small: a poor model's slow drift is much of what it
        has, and little of this.
        """
        constant, targets, likelihood = self._constant(), self._targets(), self.likelihood
        if constant is None or targets is None or likelihood is None:
            return math.nan
        if targets.numel() != constant.numel() * len(self.feeds):
            return math.nan
        rows = targets.flatten(0, 1).flatten(1)
        rank = min(self.course.subject.lineage.latents, rows.shape[0] // 4, rows.shape[1])
        if rank < 1 or targets.shape[1] != self.batch:
            return math.nan
        mean = rows.mean(0)
        wide = min(rank + OVERSAMPLED, *rows.shape)
        basis = torch.svd_lowrank(rows - mean, q=wide, niter=4)[2][:, :rank]
        linear = (mean + (rows - mean) @ basis @ basis.T).reshape(targets.shape)
        if likelihood.is_bernoulli or likelihood.of_classes:
            linear = linear.clamp(1e-3, 1 - 1e-3)
        outputs = torch.stack([likelihood.outputs(one).reshape(constant.shape) for one in linear])
        output = self.course.subject.lineage.output
        without, best = self._asked({output: constant}), self._asked([{output: one} for one in outputs])
        if math.isfinite(self.variance) and self.objective.learned_scale:
            return float((without[1] / best[1]).log().mean()) * self.objective.features / 2
        return float((self._cost(without) - self._cost(best)).mean())

    def _cost(self, asked: tuple[Tensor, Tensor]) -> Tensor:
        loss, sse = asked
        nats = loss * self.scale
        if math.isnan(self.variance):
            return nats
        if self.objective.family != "gaussian" or self.objective.learned_scale:
            return nats * self.kl_weight
        return (nats - sse / (2 * self.variance)) * self.kl_weight + self._nats(sse)

    def _nats(self, sse: Tensor) -> Tensor:
        """min over v >= s of D/2 log v + SSE / 2v, up to a constant."""
        known = [1 - float(gaps.double().mean()) for gaps in self.gaps if gaps is not None]
        d = max(1, self.objective.features) * (sum(known) / len(known) if known else 1.0)
        ratio = sse / d / self.variance
        return d / 2 * torch.where(ratio > 1, 1 + ratio.clamp_min(1e-300).log(), ratio)

    def _asked(self, also: Feed | Sequence[Feed]) -> tuple[Tensor, Tensor]:
        """(loss, squared error of one example), of each batch, [feeds], with `also` fed besides."""
        extra = [also] * len(self.feeds) if isinstance(also, dict) else also
        with torch.no_grad():
            rows = [
                [self._one({**feed, **extra[i]}, FIRST_NOISE + self.noises * i + n, i) for n in range(self.noises)]
                for i, feed in enumerate(self.feeds)
            ]
        table = torch.tensor(rows, dtype=torch.float64).mean(1)
        return table[:, 0], table[:, 1]

    def _one(self, feed: Feed, noise: int, position: int) -> tuple[float, float]:
        lineage = self.course.subject.lineage
        wanted = [] if math.isnan(self.variance) else [lineage.output, lineage.target]
        loss, values = self.course.run(feed, noise, wanted)
        if not wanted:
            return float(loss), math.nan
        output, target = (values[s] for s in wanted)
        target = target.reshape(output.shape) if target.numel() == output.numel() else target
        gaps = self.gaps[position] if self.gaps else None
        target = target if gaps is None else torch.where(gaps, output, target)
        error = torch.broadcast_tensors(output, target)  # several samples of one example: of each
        repeated = error[0].numel() / target.numel()
        return float(loss), float((error[0] - error[1]).square().sum()) / repeated / self.batch

    def _constant(self) -> Tensor | None:
        """The best output that does not depend on the example, in the output's shape."""
        likelihood = self.likelihood
        targets = self._targets()
        if likelihood is None or likelihood.target is None or targets is None:
            return None
        late = targets.shape[1] != self.batch and targets.dim() > 3 and targets.shape[2] == self.batch  # time first
        mean = targets.mean((0, 2 if late else 1), keepdim=True)[0]
        shape = likelihood.output.shape
        try:
            whole = likelihood.outputs(mean.expand(targets.shape[1:]))
            return (whole.reshape(shape) if whole.numel() == likelihood.output.numel() else whole.expand(shape)).clone()
        except RuntimeError:  # of another size in a way that we do not know
            return None

    def _targets(self) -> Tensor | None:
        """[feeds, ...] what the loss compares with."""
        target, run = self.course.subject.lineage.target, self.course.replay.run
        if target is None or target < 0 or self.likelihood is None:
            return None
        with torch.no_grad():
            return torch.stack([self.likelihood.numbers(run([target], feed=feed)[target]) for feed in self.feeds])
