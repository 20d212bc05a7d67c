"""What a setting is worth on rows it was not trained on, by a number that means the same whatever the setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from whyvae.data import Dataset
from whyvae.data.raw import DataError, Raw
from whyvae.data.summary import Streamed
from whyvae.models.build import ModelConfig
from whyvae.sampling import draws, generated
from whyvae.score import FEWEST, Reference
from whyvae.train import train
from whyvae.training.feed import affordable
from whyvae.training.run import TrainConfig, Trained
from whyvae.tuning.folds import Pair

Objective = Literal["elbo", "samples"]
Told = Callable[[int, dict[str, Any]], None]  # a fold, and a line of its log
DRAWS = 8  # of z for each row that judges
JUDGED = 512  # rows at a time
MOST_JUDGED = 16384  # of streamed rows


@dataclass(frozen=True, slots=True)
class Scores:
    """One number a fold; for `elbo` negative ELBO in nats an example (smaller is better), for `samples` quality."""

    values: tuple[float, ...]
    folds: int  # without the repeats

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def half(self) -> float:
        """Half the 95 % interval. Folds share rows: the variance is that of Nadeau & Bengio (2003), t with J - 1."""
        count = len(self.values)
        if count < 2:
            return math.nan
        share = 1 / (self.folds - 1)  # judging rows over training rows
        return quantile(count - 1) * float(np.std(self.values, ddof=1)) * math.sqrt(1 / count + share)

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "ci95": [self.mean - self.half, self.mean + self.half], "folds": list(self.values)}


def quantile(freedom: float) -> float:
    """97.5 % of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def part(data: Dataset, which: Any) -> Dataset:
    """Rows at `which` as a data set that knows nothing of the others: ranges and moments are its own. What is streamed stays so."""
    labels = None if data.labels is None else data.labels[which]
    rows = data.rows.part(which) if isinstance(data.rows, Streamed) else np.asarray(data.rows[which])
    return Dataset.unchecked(Raw(rows, labels, data.kind, data.columns, data.notes), data.source, data.kind)


def judging(data: Dataset, which: Any) -> Tensor:
    """Rows at `which`, spread over them and no more than memory holds where the data is streamed."""
    if isinstance(data.rows, Streamed):
        count = min(len(which), affordable(MOST_JUDGED, data.shape))
        which = np.asarray(which)[np.linspace(0, len(which) - 1, count).round().astype(np.int64)]
    return data.take(which)


@torch.no_grad()
def nats(trained: Trained, rows: Tensor, seed: int = 0) -> Tensor:
    """Negative ELBO of rows [n, *shape], in nats of the data's own unit, [n].

    The KL counts once and the noise variance is the calibrated one, whatever the loss was: neither the KL weight nor the unit
    of the model can move it but by what they did to the model.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = []
        for some in rows.split(JUDGED):
            x = trained.codec.encode(some)
            terms = [trained.model(x)[:2] for _ in range(DRAWS)]
            parts.append(torch.stack([(nll + kl).double() for nll, kl in terms]).mean(0))
    return torch.cat(parts) + trained.codec.nats


def quality(trained: Trained, rows: Tensor, seed: int = 0) -> float:
    """Likeness of samples to rows [n, *shape]; 1: as real ones. See `whyvae.score.Score.quality`.

    Raises:
        DataError: too few rows to compare with.
    """
    if len(rows) < 4 * FEWEST:
        raise DataError(
            f"{len(rows)} rows in a fold are too few to score samples: {4 * FEWEST} are wanted (fewer --folds)"
        )
    reference = Reference(rows)
    return reference.score(generated(trained, draws(trained, reference.rows, "prior", None, seed), seed=seed)).quality


def judged(trained: Trained, rows: Tensor, objective: Objective) -> float:
    return float(nats(trained, rows).mean()) if objective == "elbo" else quality(trained, rows)


def cross_validated(
    data: Dataset, pairs: Sequence[Pair], folds: int, model: ModelConfig, config: TrainConfig, objective: Objective,
    told: Told = lambda *_: None,
) -> Scores:  # fmt: skip
    """`model` as `resolved` returns it: every fold then has the same likelihood.

    Raises:
        what `whyvae.train.train` raises, and `told`.
    """
    values: list[float] = []
    for fold, (fit, judge) in enumerate(pairs):
        trained = train(part(data, fit), model, config, told=lambda line, fold=fold: told(fold, line))  # type: ignore[misc]
        values.append(judged(trained, judging(data, judge), objective))
        told(fold, {"score": values[-1], "mean": float(np.mean(values))})
    return Scores(tuple(values), folds)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tuned and default, trained on the same rows and judged on others; `gain` above 0: the tuned one is better.

    `half` is half the 95 % interval: of the rows that judge (for `elbo`), and of the trainings where there are several seeds.
    """

    default: float
    tuned: float
    gain: float
    half: float
    rows: int
    seeds: int

    @property
    def verdict(self) -> str:
        if not math.isfinite(self.half):
            return "cannot tell: --seeds 2 or more are wanted"
        if self.gain > self.half:
            return "the tuned model beats the default"
        if self.gain < -self.half:
            return "the tuned model is worse than the default: keep the default"
        return "no sure difference: the tuned model does not beat the default"

    def to_dict(self) -> dict[str, Any]:
        interval = [self.gain - self.half, self.gain + self.half]
        plain = {
            "default": self.default,
            "tuned": self.tuned,
            "gain": self.gain,
            "rows": self.rows,
            "seeds": self.seeds,
        }
        return {**plain, "ci95": interval if math.isfinite(self.half) else None, "verdict": self.verdict}


Settings = tuple[ModelConfig, TrainConfig]


def compared(
    data: Dataset, fit: Any, judge: Any, default: Settings, tuned: Settings, objective: Objective, seeds: int,
    told: Callable[[int], None] = lambda _: None,
) -> Comparison:  # fmt: skip
    """Both trained on rows `fit` from `seeds` seeds each, and judged on rows `judge`."""
    rows, fitted = judging(data, judge), part(data, fit)
    values: tuple[list[Any], list[Any]] = ([], [])
    for seed in range(seeds):
        for (model, config), found in zip((default, tuned), values, strict=True):
            trained = train(fitted, model, replace(config, seed=config.seed + seed))
            found.append(nats(trained, rows).numpy() if objective == "elbo" else np.array([quality(trained, rows)]))
        told(seed)
    one, other = (np.stack(found) for found in values)  # [seeds, rows or 1]
    gains = one - other if objective == "elbo" else other - one
    return Comparison(
        float(one.mean()), float(other.mean()), float(gains.mean()), half_width(one, other), len(rows), seeds
    )  # fmt: skip


def half_width(one: Any, other: Any) -> float:
    """Half the 95 % interval of the mean of `one` - `other` [seeds, rows]: the same rows, trainings of their own.

    Two sources of chance: the rows that judge, in pairs, and the trainings, by Welch's t; NaN where neither is known.
    """
    seeds, rows = one.shape
    if rows == 1 and seeds == 1:
        return math.nan
    by_row = 1.96 * float((one - other).mean(0).std(ddof=1)) / math.sqrt(rows) if rows > 1 else 0.0
    if seeds == 1:
        return by_row
    a, b = (float(x.mean(1).var(ddof=1)) for x in (one, other))
    if a + b == 0:
        return by_row
    freedom = (a + b) ** 2 * (seeds - 1) / (a**2 + b**2)
    return math.hypot(by_row, quantile(freedom) * math.sqrt((a + b) / seeds))
