"""The generation ladder: how real are reconstructions, samples from where encodings lie, and samples from the prior?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, OnDemand, Probe
from whyvae.probes.bypass import Bypass
from whyvae.probes.data import by_example
from whyvae.probes.density import Density, density
from whyvae.probes.intervals import binomial
from whyvae.probes.latents import encodings, posterior_samples
from whyvae.probes.objective import audited_likelihood, audited_regulariser
from whyvae.probes.output import OutputActivation, OutputRange
from whyvae.probes.rates import taken_for_logarithms
from whyvae.probes.reconstruction import reconstructions
from whyvae.score import FEWEST, Reference, Score
from whyvae.watch.tape import Op

SEED = 23
MOST = 1024  # real examples; half as many are generated on each rung
ENOUGH = 16 * FEWEST  # held-out examples: fewer say less than those of training
REPEATED = 1.5  # examples looked at for each different one wanted
MOST_NUMBERS = 40_000_000  # in the examples of one rung, and as many multiplications times LABOUR for all rungs
LABOUR = 500
MOST_UNITS = 512  # of a latent whose hole is measured without samples: a density of more costs more than it tells
DRAWS = 4  # from each unseen posterior: the 1 % quantile of few encodings is a guess
HALF = 0.5  # of the quality where encodings lie: of 37 healthy VAEs 36 keep 0.8 of it and more from N(0, I)
RARE = 0.01  # of encodings are less likely than what counts as a hole

Feeds = list[dict[int, Tensor]]


@dataclass(frozen=True)
class Ladder(Probe):
    """Scores of what the decoder makes, in evaluation mode: of posterior samples (`reconstruction`), of draws from a
    density fitted to the encodings (`fitted`), of N(0, I) (`prior`). Examples are held-out ones where there are enough.

    `hole` is the share of N(0, I) that is less likely under that density than 99 % of unseen encodings, with its exact
    95 % interval: 0.01 where the encodings are N(0, I). `plausible_in_hole` and `plausible_fitted` are the shares of
    samples with a real example nearby, of draws from the hole and of draws from the density.
    """

    reconstruction: Score
    fitted: Score
    prior: Score
    components: int  # Gaussians in the density
    hole: float
    hole_low: float
    hole_high: float
    plausible_in_hole: float  # NaN where too few draws fell there
    plausible_fitted: float
    held_out: bool
    rows: int  # on each side of a score

    @classmethod
    def measure(cls, subject: Any) -> Self:
        kept = subject.__dict__.setdefault("_ladder", {})
        if not kept:
            try:
                kept["is"] = cls._measured(subject)
            except CannotMeasure as reason:
                kept["is"] = reason
        if isinstance(kept["is"], CannotMeasure):
            raise kept["is"]
        found: Self = kept["is"]
        return found

    @classmethod
    def _measured(cls, subject: Any) -> Self:
        lineage = subject.lineage
        if lineage.eps < 0:
            raise CannotMeasure("does not apply: no noise makes z, so no prior is matched")
        if lineage.target is None:
            raise CannotMeasure("what the loss compares the output with was not found")
        generator = torch.Generator().manual_seed(SEED)
        feeds, held_out = _examples(subject)
        real, reconstructed = _reconstructed(subject, feeds, generator)
        reference = Reference(real)
        n = reference.rows
        fit, unseen = _encoded(subject, generator, held_out=held_out)
        near = density(fit, unseen)
        draws = torch.randn(n, fit.shape[1], generator=generator, dtype=torch.float64)
        fitted, prior = (_decoded(subject, z, real) for z in (near.sample(n, generator), draws))
        outside = in_hole(near, unseen, draws)
        hits = int(outside.sum())
        return cls(
            reference.score(reconstructed[:n]), reference.score(fitted), reference.score(prior), near.components,
            *binomial(hits, n),
            float(reference.plausible(prior[outside]).mean()) if hits >= FEWEST else math.nan,
            float(reference.plausible(fitted).mean()), held_out, n,
        )  # fmt: skip

    @property
    def prior_excess(self) -> float:
        """How much further from the data samples get by drawing from N(0, I) and not from where encodings lie.

        Sliced squared distance, in units of the data's variance: that of a generator that repeats the mean.
        """
        return self.fitted.sliced.share - self.prior.sliced.share

    @property
    def prior_quality(self) -> float:
        """Quality of samples from N(0, I) as a share of that of samples from where encodings lie; NaN where both fail."""
        return self.prior.quality / self.fitted.quality if self.fitted.quality > 0 else math.nan

    @property
    def prior_reach(self) -> float:
        """Of samples among real examples, and of real examples that samples come near, the smaller share that is kept
        when draws come from N(0, I) and not from where encodings lie; NaN where both fail.

        Blur costs recall on every rung, and more of it costs more; a place that spoils samples costs one of these two.
        """
        if not self.fitted.quality > 0:
            return math.nan
        prior, fitted = self.prior, self.fitted
        return min(prior.precision.share / fitted.precision.share, prior.coverage.share / fitted.coverage.share)


@dataclass(frozen=True)
class PriorExcess(Probe):
    """`Ladder.prior_excess`; where that cannot be had NaN and the reason, since a weight can be too heavy without it. Then
    `hole` is the share of N(0, I) where no encoding lies, as in `Ladder`, which asks for no samples.
    """

    value: float
    unknown: str = ""
    hole: float = math.nan

    @classmethod
    def measure(cls, subject: Any, bypass: OnDemand[Bypass]) -> Self:
        try:
            if audited_regulariser(subject).own_prior:
                return cls(math.nan, "draws from N(0, I) say nothing: the model has a prior of its own")
        except CannotMeasure as cannot:
            return cls(math.nan, cannot.reason)
        beside = bypass()
        if beside is not None and beside.by_past:
            unknown = "does not apply: beside a draw, the decoder is shown an example's own past"
            return cls(math.nan, unknown, _hole(subject))
        try:
            return cls(Ladder.measure(subject).prior_excess)
        except CannotMeasure as cannot:
            return cls(math.nan, cannot.reason, _hole(subject))


@dataclass(frozen=True)
class AgainstLinear(Probe):
    """Qualities of reconstructions, and of what a linear model of as many latents makes of the same examples (their best
    approximation in that many principal directions): what these latents can do for these data at the least.

    Both in evaluation mode, by the same score, so that noise in the data, which neither can rebuild, costs both.
    """

    reconstruction: float
    linear: float

    @classmethod
    def measure(cls, subject: Any) -> Self:
        ladder = Ladder.measure(subject)
        generator = torch.Generator().manual_seed(SEED)
        real, _ = _reconstructed(subject, _examples(subject)[0], generator)
        rank = min(subject.lineage.latents, real.shape[0] // 4, math.prod(real.shape[1:]))
        linear = _principal(real.flatten(1), rank).reshape(real.shape)
        likelihood = audited_likelihood(subject)
        if likelihood is not None and (likelihood.is_bernoulli or likelihood.of_classes):
            linear = linear.clamp(0, 1)
        reference = Reference(real)
        return cls(ladder.reconstruction.quality, reference.score(linear[: reference.rows]).quality)

    @property
    def share(self) -> float:
        """1 where reconstructions are as real as the linear ones; NaN where these fail."""
        return self.reconstruction / self.linear if self.linear > 0 else math.nan


def _principal(rows: Tensor, rank: int) -> Tensor:
    """The best approximation of `rows` [n, D] by their mean and `rank` directions, [n, D]."""
    mean = rows.mean(0)
    directions: Tensor = torch.linalg.svd(rows - mean, full_matrices=False).Vh[:rank]
    return mean + (rows - mean) @ directions.T @ directions


@dataclass(frozen=True, slots=True)
class Rows:
    """Real examples and, `times` as many as the half of them, samples: from N(0, I), from a density fitted to the encodings."""

    real: Tensor
    prior: Tensor
    fitted: Tensor


def rows_of(subject: Any, times: int, *, blind: bool = False) -> Rows:
    """What the generation of a model is judged by, in the shape of the data, [n, ...]. `blind`: see `decode`.

    Raises:
        CannotMeasure: too few examples were seen, or the decoder puts out values that are not finite.
    """
    generator = torch.Generator().manual_seed(SEED)
    feeds, held_out = _examples(subject)
    real, _ = _reconstructed(subject, feeds, generator)
    fit, unseen = _encoded(subject, generator, held_out=held_out)
    count = times * (real.shape[0] // 2)
    draws = torch.randn(count, fit.shape[1], generator=generator, dtype=torch.float64)
    near = density(fit, unseen)
    made = (_decoded(subject, z, real, blind=blind) for z in (draws, near.sample(count, generator)))
    return Rows(real, *made)


def _hole(subject: Any) -> float:
    """Share of N(0, I) where no encoding lies; NaN where encodings cannot be had."""
    generator = torch.Generator().manual_seed(SEED)
    try:
        fit, unseen = _encoded(subject, generator, held_out=False)
        if fit.shape[1] > MOST_UNITS:
            return math.nan
        draws = torch.randn(MOST, fit.shape[1], generator=generator, dtype=torch.float64)
        return float(in_hole(density(fit, unseen), unseen, draws).double().mean())
    except CannotMeasure:
        return math.nan


def in_hole(near: Density, unseen: Tensor, draws: Tensor) -> Tensor:
    """Which of `draws` [n, units] are less likely under `near` than all but the RARE share of encodings, [n]."""
    return near.log(draws) < near.log(unseen).quantile(RARE)


def _examples(subject: Any) -> tuple[Feeds, bool]:
    """(feeds of held-out examples, True) where they are enough and nothing but the example itself enters the model."""
    feeds: Feeds = subject.held_out
    seen: Feeds = subject.train or [{}]
    if len(feeds) * subject.batch < ENOUGH:
        return seen, False
    known = {subject.lineage.eps, *feeds[0]}
    entering = {slot for feed in seen for slot in feed} - known
    beside = entering & subject.deps.ancestors([subject.lineage.output], stop=known)  # labels, say
    return (seen, False) if beside else (feeds, True)


def _reconstructed(subject: Any, feeds: Feeds, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(different examples, their reconstructions), [n, ...] in the shape of the data, shuffled."""
    wanted = 2 * _affordable(subject)
    outputs, targets = reconstructions(subject, feeds[-math.ceil(REPEATED * wanted / subject.batch) :])
    order = _distinct(targets, generator)[:wanted]
    if order.numel() < 2 * FEWEST:
        raise CannotMeasure(f"needs {2 * FEWEST} different examples to score samples, saw {order.numel()}")
    if _padded(subject, targets[order]):
        raise CannotMeasure("does not apply: what a sample holds behind its end is compared with nothing in training")
    shape = example_shape(subject)
    return targets[order].reshape(-1, *shape), _finite(outputs[order]).reshape(-1, *shape)


def _padded(subject: Any, targets: Tensor) -> bool:
    """Are some positions of classes counted in some examples and not in others?"""
    likelihood = audited_likelihood(subject)
    if likelihood is None or not likelihood.of_classes:
        return False
    counted = targets.reshape(targets.shape[0], -1, likelihood.output.shape[likelihood.axis]).any(-1)
    return bool((counted != counted[:1]).any())


def _decoded(subject: Any, z: Tensor, like: Tensor, *, blind: bool = False) -> Tensor:
    return _finite(decode(subject, z, blind=blind)).reshape(-1, *like.shape[1:])


def _distinct(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Positions of rows that differ from each other, shuffled: a step may repeat an example of an earlier one."""
    first: dict[int, int] = {}
    for i in torch.randperm(rows.shape[0], generator=generator).tolist():
        first.setdefault(hash(rows[i].numpy().tobytes()), i)
    return torch.tensor(list(first.values()), dtype=torch.long)


def example_shape(subject: Any) -> tuple[int, ...]:
    """Of one example: the target's, or the encoder input's where the target is the same flattened."""
    slots, lineage, likelihood = subject.tape.slots, subject.lineage, audited_likelihood(subject)
    if likelihood is not None and likelihood.of_classes and not slots[lineage.target].dtype.is_floating_point:
        return (likelihood.output.numel() // subject.batch,)
    target, data = (_of_one(slots[s].shape, subject.batch) for s in (lineage.target, lineage.data))
    return data if len(data) > len(target) and math.prod(data) == math.prod(target) else target


def _of_one(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    batch_second = len(shape) > 1 and shape[0] != batch and shape[1] == batch
    return (shape[0], *shape[2:]) if batch_second else tuple(shape[1:]) or (1,)  # one column of a table


def _encoded(subject: Any, generator: torch.Generator, *, held_out: bool) -> tuple[Tensor, Tensor]:
    """(posterior samples to fit a density to, those to judge it by): of seen and held-out examples, else three to one."""
    count = encodings(subject)[0].shape[0]
    order = torch.randperm(count, generator=generator)
    cut = count if held_out else count * 3 // 4
    fit, rest = order[:cut], order[cut:]
    unseen = (
        posterior_samples(subject, generator, subject.held_out, times=DRAWS)
        if held_out
        else posterior_samples(subject, generator, rows=rest, times=DRAWS)
    )
    return posterior_samples(subject, generator, rows=fit), unseen


def _affordable(subject: Any) -> int:
    """Samples a rung can have, from the size of an example and the decoder's multiplications."""
    size = max(1, subject.batch)
    features = math.prod(example_shape(subject))
    labour = sum(_multiplications(subject, op) for op in subject.tape.ops) / size
    most = min(MOST_NUMBERS / max(1, features), LABOUR * MOST_NUMBERS / max(1.0, labour))
    return max(4 * FEWEST, min(MOST // 2, int(most)))


def _multiplications(subject: Any, op: Op) -> float:
    """Of one parametrised op: numbers in its largest weight, once for each place it is applied at."""
    slots = subject.tape.slots
    weights = [slots[r].numel for r in op.reads if slots[r].trainable]
    tensors = [slots[s].shape for s in (*op.reads, *op.outs) if not slots[s].trainable and len(slots[s].shape) > 1]
    if not weights or not tensors:
        return 0.0
    places = [math.prod(s) / s[1 if "conv" in op.name else -1] for s in tensors]
    return float(max(weights) * min(places))


def _finite(rows: Tensor) -> Tensor:
    if not bool(torch.isfinite(rows).all()):
        raise CannotMeasure("the decoder puts out values that are not finite")
    return rows


def _mean_example(subject: Any, feed: dict[int, Tensor]) -> dict[int, Tensor]:
    data = [subject.lineage.data]
    shown = subject.deps.ancestors(data) | subject.deps.descendants(data)
    averaged = {
        s: v.mean(0, keepdim=True).expand_as(v).clone() for s, v in feed.items() if s in shown and v.is_floating_point()
    }
    return {**feed, **averaged}


def decode(subject: Any, z: Tensor, *, blind: bool = False) -> Tensor:
    """Outputs in data space [n, D] for latents [n, units], in evaluation mode; other inputs (labels) as recorded.

    `blind`: a decoder that is shown the example beside z is shown the mean example, since a new sample has none.
    """
    lineage, replay = subject.lineage, subject.replay
    shape = subject.tape.slots[lineage.z].shape
    points = _points(subject)
    size, made = subject.batch, []
    feeds = [_mean_example(subject, feed) if blind else feed for feed in subject.train or [{}]]
    if len(shape) > 2 and shape[0] != size and shape[1] == size:
        raise CannotMeasure("does not apply: several samples per example in one step")
    for i, start in enumerate(range(0, z.shape[0], size)):
        part = z[start : start + size]
        full = torch.cat([part, part[:1].expand(size - part.shape[0], -1)]) if part.shape[0] < size else part
        with torch.no_grad():
            output = replay.run(
                [lineage.output],
                feed={**feeds[i % len(feeds)], lineage.z: full.reshape(shape)},
                training=False,
            )[lineage.output]
        made.append(by_example(points(output), size)[: part.shape[0]])
    return torch.cat(made)


def _points(subject: Any) -> Callable[[Tensor], Tensor]:
    """What an output is in data space; a rate that the loss takes for its logarithm is the rate."""
    likelihood = audited_likelihood(subject)
    if likelihood is None:
        return lambda output: output
    if likelihood.family != "poisson":  # what follows replays the decoder's end
        return likelihood.points
    activation = OutputActivation.measure(subject)
    rates = taken_for_logarithms(likelihood.family, activation, lambda: OutputRange.measure(subject, activation))
    return likelihood.points if rates is None else lambda output: output
