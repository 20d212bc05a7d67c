"""How good a trained model generates, as numbers that trials compare."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from scipy.stats import t as student
from torch import Tensor

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.bypass import Bypass
from whyvae.probes.generation import Rows, rows_of
from whyvae.probes.latents import LatentUsage
from whyvae.probes.parts import further_parts
from whyvae.probes.reconstruction import Reconstruction
from whyvae.score import Reference

CHUNKS = 6  # independent sets of samples a model is scored by
WORST = -1.0  # as far again from the data as the mean repeated is: how bad exactly says nothing more
# Standard deviation, from seed to seed, of the difference of two trainings' likenesses: that of one control and its placebo
# may be small by chance. Of 20 scripts (bench/cures.py) half differed by less than 0.015, which is 0.67 of it.
SEED_TO_SEED = 0.02
DECISIONS = 29  # a seed
SURE = 2.571  # t, two-sided 95 %, CHUNKS - 1 degrees of freedom


@dataclass(frozen=True, slots=True)
class Outcome:
    """`prior` and `fitted`: likeness to the data of independent sets of samples from N(0, I), and from a density fitted to
    the encodings: by how much their squared sliced Wasserstein distance to the data is smaller than that of the mean
    repeated, 1 as for real examples; below 0 they are worse than the mean. Precision, recall and what is made of them
    are 0 for poor models and poorer ones alike; this is not. `elbo`: nats per example of a Gaussian likelihood at its best variance, data scaled
    to variance 1; NaN where unknown. `unmeasured`: why there is no likeness.
    """

    prior: tuple[float, ...] = ()
    fitted: tuple[float, ...] = ()
    elbo: float = math.nan
    unmeasured: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        return cls(tuple(entry["prior"]), tuple(entry["fitted"]), float(entry["elbo"]), entry["unmeasured"])

    @property
    def likeness(self) -> float:
        return mean(self.prior)


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference of likenesses and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        return self.low > 0


def measured(subject: Any, bench: Bench) -> tuple[Outcome, Rows | None]:
    """What a run has come to; samples that are not finite are as bad as can be."""
    elbo = _elbo(bench)
    try:
        rows = _of_all_parts(subject, blind=_shown_the_example(bench))
    except CannotMeasure as cannot:
        if "not finite" in cannot.reason or "TRN01" in cannot.reason:
            return Outcome((WORST,) * CHUNKS, (WORST,) * CHUNKS, elbo), None
        return Outcome(elbo=elbo, unmeasured=cannot.reason), None
    reference = Reference(rows.real)
    return Outcome(_likenesses(reference, rows.prior), _likenesses(reference, rows.fitted), elbo), rows


def _of_all_parts(subject: Any, *, blind: bool) -> Rows:
    """Samples of a loss of several likelihoods are judged by all of them, side by side, [n, D]: of what is a class or a yes
    or no in the data a sample has one too, since beside numbers a probability for each passes for too little variance.
    """
    first = rows_of(subject, CHUNKS, blind=blind)
    rows = [first]
    for part in further_parts(subject):
        with suppress(CannotMeasure):
            found = rows_of(part, CHUNKS, blind=blind)
            rows += [found] if len(found.real) == len(first.real) and len(found.prior) == len(first.prior) else []
    if len(rows) == 1:
        return first
    beside = (torch.cat([getattr(r, f.name).flatten(1) for r in map(_decided, rows)], 1) for f in fields(Rows))
    return Rows(*beside)


def _decided(rows: Rows) -> Rows:
    """Probabilities drawn from, where the data are zeros and ones: one of the last axis where they sum to one there."""
    if not bool(((rows.real == 0) | (rows.real == 1)).all()):
        return rows
    generator = torch.Generator().manual_seed(DECISIONS)
    return Rows(rows.real, *(_drawn(p, generator) for p in (rows.prior, rows.fitted)))


def _drawn(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    classes = probabilities.shape[-1]
    shares = torch.allclose(probabilities.sum(-1), torch.ones((), dtype=probabilities.dtype), atol=1e-4)
    if not shares:
        return torch.bernoulli(probabilities.clamp(0, 1), generator=generator)
    picked = torch.multinomial(probabilities.reshape(-1, classes).clamp_min(0), 1, generator=generator)
    drawn = torch.nn.functional.one_hot(picked[:, 0], classes)
    return drawn.reshape(probabilities.shape).to(probabilities)


def _shown_the_example(bench: Bench) -> bool:
    try:
        bypass = bench.get(Bypass)
    except CannotMeasure:
        return False
    return bypass.leak and bypass.own


def _likenesses(reference: Reference, samples: Tensor) -> tuple[float, ...]:
    return tuple(max(WORST, reference.sliced(part).share) for part in samples.tensor_split(CHUNKS))


def _elbo(bench: Bench) -> float:
    try:
        made, usage = bench.get(Reconstruction), bench.get(LatentUsage)
    except CannotMeasure:
        return math.nan
    share = 1 - made.kept  # of the data's variance that reconstructions lose
    return -0.5 * made.features * (math.log(2 * math.pi * max(share, 1e-12)) + 1) - usage.rate


def mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else math.nan


def _error(values: tuple[float, ...]) -> float:
    """Standard error of the mean."""
    if len(values) < 2:
        return math.inf
    middle = mean(values)
    return math.sqrt(sum((v - middle) ** 2 for v in values) / (len(values) - 1) / len(values))


def effect(treated: tuple[float, ...], control: tuple[float, ...], between: float = 0.0) -> Effect:
    """Treated minus control. `between`: standard deviation of that difference from seed to seed, beside the samples' own."""
    value = mean(treated) - mean(control)
    half = SURE * math.sqrt(_error(treated) ** 2 + _error(control) ** 2 + between**2)
    return Effect(value, value - half, value + half)


def paired(pairs: list[tuple[float, float]]) -> Effect:
    """Treated minus control over seeds, both from the same one in each pair; Student's interval of the mean."""
    differences = [treated - control for treated, control in pairs]
    value = sum(differences) / len(differences)
    half = float(student.ppf(0.975, len(differences) - 1)) * _error(tuple(differences))
    return Effect(value, value - half, value + half)
