"""What the defaults of each make of the same rows: likelihood of rows neither saw, and samples.

Everything is told for rows in [0, 1]: a density of rows times c is brought there by its Jacobian (D log c), samples
by division. Both get the same rows, as they are, and both choose their best epoch on a tenth of them; the test rows
are seen by neither.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from bench.against_pythae import theirs
from torch import Tensor, nn

from whyvae.data import Dataset
from whyvae.data.raw import Raw
from whyvae.marginal import Likelihood, importance_weighted
from whyvae.models.likelihoods import Bernoulli, Gaussian
from whyvae.models.vae import VAE
from whyvae.score import Reference
from whyvae.train import recalibrate, train
from whyvae.training.run import TrainConfig

TEST, MOST_TEST = 0.1, 1000  # share of the rows kept for the end
DRAWS = 256  # of the importance-weighted bound, for each row
SAMPLE_SETS = 5  # sets of samples that are scored
VARIANTS = ("[0, 1]", "0-255", "standardised")


@dataclass(frozen=True)
class Judged:
    """A model that was trained, in nats an example for rows in [0, 1]; `own` is None where its loss is no density of them."""

    data: str
    variant: str
    model: str
    seed: int
    own: Likelihood | None
    bernoulli: Likelihood | None  # where the loss is a Bernoulli's: cross-entropy and KL, as both packages count it
    calibrated: Likelihood  # of N(mean output, s), s the mean squared residual of the training rows
    s: float  # that variance, for rows in [0, 1]
    density: tuple[float, float]  # mean over sets of samples and its standard deviation
    coverage: tuple[float, float]
    quality: float
    seconds: float


def scaled(rows: Tensor, variant: str, train_rows: Tensor) -> tuple[Tensor, float, float]:
    """Rows, and shift and scale: row = shift + scale * (row in [0, 1])."""
    if variant == "0-255":
        shift, scale = 0.0, 255.0
    elif variant == "standardised":
        scale = 1 / float(train_rows.std())
        shift = -float(train_rows.mean()) * scale
    else:
        shift, scale = 0.0, 1.0
    return shift + scale * rows, shift, scale


class _Mean(nn.Module):
    """A decoder that puts out what its likelihood expects."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.likelihood.mean(self.model.decode(z))


@torch.no_grad()
def _calibrated(model: VAE, train_rows: Tensor) -> VAE:
    made = VAE(model.encoder, _Mean(model), Gaussian((), 1.0), model.prior).eval()
    recalibrate(made, train_rows)
    return made


def judge(
    data: str, variant: str, name: str, seed: int, rows: Tensor, test: Tensor,
    make: Callable[[Tensor, int], tuple[VAE, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]],
) -> Judged:  # fmt: skip
    """`make` trains on rows and gives a model, the maps into its unit and back, and the log of its unit's scale for one value."""
    given, shift, scale = scaled(rows, variant, rows)
    began = time.process_time()
    model, encode, decode, log_scale = make(given, seed)
    seconds = time.process_time() - began
    values = math.prod(rows.shape[1:])
    there = encode(shift + scale * test)
    nats = values * (log_scale - math.log(scale))  # from the model's unit to that of rows in [0, 1]
    torch.manual_seed(seed)
    fitted = _calibrated(model, encode(given))
    bernoulli = isinstance(model.likelihood, Bernoulli)
    own = importance_weighted(model, there, DRAWS)
    density, coverage, quality = _scored(rows, model, lambda z: (decode(z) - shift) / scale, seed)
    return Judged(
        data, variant, name, seed, None if bernoulli else _moved(own, nats), own if bernoulli else None,
        _moved(importance_weighted(fitted, there, DRAWS), nats),
        float(fitted.likelihood.variance) * math.exp(2 * (log_scale - math.log(scale))),  # type: ignore[arg-type]
        density, coverage, quality, seconds,
    )  # fmt: skip


def _moved(found: Likelihood, nats: float) -> Likelihood:
    return Likelihood(found.nats + nats, found.error, found.spread, found.rows, found.draws)


def _scored(rows: Tensor, model: VAE, decode: Callable[[Tensor], Tensor], seed: int) -> tuple[Any, Any, float]:
    """Density and coverage of the likelihood's mean at draws of the prior, without its noise for both."""
    reference, found = Reference(rows), []
    with torch.no_grad():
        for k in range(SAMPLE_SETS):
            torch.manual_seed(1000 * seed + k)
            z = model.prior.draw(reference.rows)
            found.append(reference.score(decode(model.likelihood.mean(model.decode(z)))))
    pairs = [[getattr(s, name).value for s in found] for name in ("density", "coverage")]
    density, coverage = ((float(np.mean(v)), float(np.std(v, ddof=1))) for v in pairs)
    return density, coverage, float(np.mean([s.quality for s in found]))


def ours(given: Tensor, seed: int) -> Any:
    """Every setting at its default."""
    trained = train(
        Dataset.unchecked(Raw(given.numpy(), kind="image"), "bench"), config=TrainConfig(seed=seed, device="cpu")
    )
    codec = trained.codec
    return trained.model, codec.encode, codec.decode, codec.nats / math.prod(given.shape[1:])


def pythae(loss: theirs.Loss) -> Callable[[Tensor, int], Any]:
    def made(given: Tensor, seed: int) -> Any:
        order = np.random.default_rng([seed, 1]).permutation(len(given))
        cut = len(given) // 10
        model = theirs.trained(given[order[cut:]], given[order[:cut]], loss, seed)
        return model, lambda x: x, lambda x: x, 0.0

    return made


def cell(data: str, variant: str, rows: Tensor, seed: int) -> list[dict[str, Any]]:
    """One data set, one unit, one seed."""
    order = torch.from_numpy(np.random.default_rng([seed, 5]).permutation(len(rows)))
    count = min(MOST_TEST, int(TEST * len(rows)))
    test, rest = rows[order[:count]], rows[order[count:]]
    sides: list[tuple[str, Any]] = [("whyvae", ours), ("pythae", pythae("mse"))]
    if variant == VARIANTS[0]:  # its binary_cross_entropy refuses all else
        sides.append(("pythae, bce", pythae("bce")))
    found = []
    for name, make in sides:
        try:
            found.append(asdict(judge(data, variant, name, seed, rest, test, make)))
        except (ArithmeticError, UnboundLocalError) as error:  # how pythae ends on losses that are none, or above 1e10
            if name == "whyvae":
                raise
            found.append(
                {
                    "data": data,
                    "variant": variant,
                    "model": name,
                    "seed": seed,
                    "failed": f"{type(error).__name__}: {error}",
                }
            )
    return found
