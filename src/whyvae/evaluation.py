"""What a trained VAE is worth on rows it was not trained on: likelihood, rate and distortion, units in use, samples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from whyvae.data import Dataset
from whyvae.disentangle import Disentanglement, disentanglement
from whyvae.marginal import Likelihood, annealed, importance_weighted
from whyvae.sampling import draws, encoded, generated, latents
from whyvae.score import FEWEST, Reference
from whyvae.training.feed import affordable
from whyvae.training.run import Trained

ROWS = 512  # held-out rows whose likelihood is estimated
FACTORED = 4096  # rows whose factors are compared with their code
ANNEALED = 64  # of them, where annealing is asked for: it costs some thousand gradients a row
REAL = 1024  # rows that samples are compared with
ACTIVE = 0.01  # variance of a unit's posterior mean over the data (Burda et al. 2016)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Qualities are `whyvae.score.Score.quality`, 1 is as good as real rows; NaN where there are too few rows."""

    likelihood: Likelihood
    elbo: float  # in nats, negative; the same rows
    rate: float
    distortion: float
    active: int
    units: int
    quality_of_samples: float
    quality_of_fitted: float  # drawn from where the encodings lie
    quality_of_reconstructions: float
    annealed: Likelihood | None = None  # of the first ANNEALED of the rows
    factors: Disentanglement | None = None  # where factors are known

    def to_dict(self) -> dict[str, Any]:
        return {k: _plain(v) for k, v in asdict(self).items()}

    def describe(self) -> str:
        li, more = self.likelihood, ""
        if self.annealed is not None:
            a = self.annealed
            more = f"\nby annealing, of {a.rows} rows: {a.nats:.2f} ± {a.spread:.2f} nats ({a.draws} chains, ± {a.error:.2f})"
        if self.factors is not None:
            more += f"\n{self.factors.describe()}"
        return (
            f"held-out -log p(x) {li.nats:.2f} ± {li.spread:.2f} nats ({li.draws} draws, ± {li.error:.2f}), ELBO {self.elbo:.2f} "
            f"= KL {self.rate:.2f} + distortion {self.distortion:.2f}; {self.active} of {self.units} units active\n"
            f"quality (1: as real rows): samples {self.quality_of_samples:.2f}, from a density fitted to the encodings "
            f"{self.quality_of_fitted:.2f}, reconstructions {self.quality_of_reconstructions:.2f}{more}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def evaluate(trained: Trained, data: Dataset, seed: int = 0, *, ais: bool = False, factors: Any = None) -> Evaluation:
    """On the held-out rows of `data`, that `trained` was trained on; the caller's random stream stays as it is.

    `ais`: also estimate the likelihood by annealing. `factors` [len(data), k]: what the rows were made from, for disentanglement scores.
    """
    unseen = trained.held_out(data)
    model, rows = trained.model, trained.codec.encode(data.take(unseen[: affordable(ROWS, data.shape)]))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        nll, kl, _ = model(rows)
        likelihood = importance_weighted(model, rows)
        by_annealing = annealed(model, rows[:ANNEALED]) if ais else None
    units = encoded(trained, data, _some(data, REAL), torch.Generator().manual_seed(seed)).mu
    distortion, rate = float(nll.mean()), float(kl.mean())
    return Evaluation(
        likelihood, distortion + rate, rate, distortion, int((units.var(0) > ACTIVE).sum()), units.shape[1],
        *_qualities(trained, data, unseen, seed), by_annealing, None if factors is None else _factors(trained, data, factors, seed),
    )  # fmt: skip


def _factors(trained: Trained, data: Dataset, factors: Any, seed: int) -> Disentanglement:
    which = _some(data, FACTORED)
    codes = encoded(trained, data, which, torch.Generator().manual_seed(seed)).mu
    return disentanglement(codes.double().numpy(), np.asarray(factors)[which], seed)


def _qualities(trained: Trained, data: Dataset, unseen: Any, seed: int) -> tuple[float, float, float]:
    """Of samples, of samples from a fitted density, and of reconstructions of held-out rows."""
    which = _some(data, REAL)
    if len(which) < 4 * FEWEST or len(unseen) < FEWEST:
        return math.nan, math.nan, math.nan
    reference = Reference(data.take(which))
    made = [generated(trained, draws(trained, reference.rows, s, data, seed), seed=seed) for s in ("prior", "gmm")]
    held_out = data.take(unseen[: reference.rows])
    found = latents(trained, held_out, torch.Generator().manual_seed(seed))
    made.append(generated(trained, found.z, seed=seed))
    one, two, three = (reference.score(rows).quality for rows in made)
    return one, two, three


def _some(data: Dataset, most: int) -> Any:
    n = len(data)
    return np.linspace(0, n - 1, min(n, affordable(most, data.shape))).round().astype(np.int64)
