"""What a trained VAE is worth on rows it was not trained on: likelihood, rate and distortion, units in use, samples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whyvae.data import Dataset
from whyvae.models.priors import log_normal
from whyvae.models.vae import VAE
from whyvae.sampling import draws, encoded, generated, latents
from whyvae.score import FEWEST, Reference
from whyvae.training.feed import affordable
from whyvae.training.run import Trained

ROWS = 512  # held-out rows whose likelihood is estimated
DRAWS = 128  # importance samples of each
REAL = 1024  # rows that samples are compared with
ACTIVE = 0.01  # variance of a unit's posterior mean over the data (Burda et al. 2016)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """-log p(x) of held-out rows in nats an example, in the model's unit (add `Codec.nats` for that of the data).

    An importance-weighted bound (Burda et al. 2016): too large by about the variance of the weights over 2 `draws`.
    `error`: what the chance of the draws moves it by; `spread`: standard error over rows, what other rows would.
    """

    nats: float
    error: float
    spread: float
    rows: int
    draws: int


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

    def to_dict(self) -> dict[str, Any]:
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    def describe(self) -> str:
        li = self.likelihood
        return (
            f"held-out -log p(x) {li.nats:.2f} ± {li.spread:.2f} nats ({li.draws} draws, ± {li.error:.2f}), ELBO {self.elbo:.2f} "
            f"= KL {self.rate:.2f} + distortion {self.distortion:.2f}; {self.active} of {self.units} units active\n"
            f"quality (1: as real rows): samples {self.quality_of_samples:.2f}, from a density fitted to the encodings "
            f"{self.quality_of_fitted:.2f}, reconstructions {self.quality_of_reconstructions:.2f}"
        )


def evaluate(trained: Trained, data: Dataset, seed: int = 0) -> Evaluation:
    """On the held-out rows of `data`, that `trained` was trained on; the caller's random stream stays as it is."""
    unseen = trained.held_out(data)
    model, rows = trained.model, trained.codec.encode(data.take(unseen[: affordable(ROWS, data.shape)]))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        nll, kl, _ = model(rows)
        likelihood = importance_weighted(model, rows)
    units = encoded(trained, data, _some(data, REAL), torch.Generator().manual_seed(seed)).mu
    distortion, rate = float(nll.mean()), float(kl.mean())
    return Evaluation(
        likelihood, distortion + rate, rate, distortion, int((units.var(0) > ACTIVE).sum()), units.shape[1],
        *_qualities(trained, data, unseen, seed),
    )  # fmt: skip


@torch.no_grad()
def importance_weighted(model: VAE, rows: Tensor, count: int = DRAWS) -> Likelihood:
    """`rows` [n, *model_shape]."""
    each, errors = [], []
    for x in rows.split(max(1, affordable(4096, rows.shape[1:]) // count)):
        mu, logvar = (t.repeat_interleave(count, 0) for t in model.encode(x))
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        nll = model.likelihood.nll(model.decode(z), x.repeat_interleave(count, 0))
        weights = (model.prior.log_prob(z) - log_normal(z, mu, logvar) - nll).double().reshape(len(x), count)
        each.append(math.log(count) - weights.logsumexp(1))
        relative = (weights - weights.amax(1, keepdim=True)).exp()
        errors.append(relative.var(1) / relative.mean(1) ** 2 / count)  # of the logarithm of a mean
    nats, variance = torch.cat(each), torch.cat(errors)
    n = len(nats)
    spread = float(nats.std()) / math.sqrt(n) if n > 1 else math.nan
    return Likelihood(float(nats.mean()), math.sqrt(float(variance.sum())) / n, spread, n, count)


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
