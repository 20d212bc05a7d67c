"""What pictures need of a VAE, as plain arrays: of a script's that was watched, or of one of our own."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from whyvae.plot import Portrait
from whyvae.probe import Bench, CannotMeasure, debugging, kept_random
from whyvae.probes.data import Spectrum
from whyvae.probes.generation import decode, example_shape
from whyvae.probes.latents import encodings
from whyvae.probes.objective import Objective
from whyvae.probes.reconstruction import reconstructions
from whyvae.watch.neutral import neutral

if TYPE_CHECKING:
    from whyvae.data import Dataset
    from whyvae.training.run import Trained

SHOWN, MAPPED = 64, 1000  # rows in a sheet, points on a map
UNITS, REACH, STEPS = 12, 2.5, 7  # of traversals
SEED = 5
MOST_NUMBERS = 2**22  # in rows that are shown: fewer rows of large images
METRICS = {  # of the log: its key, and what it is
    "held_out": "held-out negative ELBO (nats)", "nll": "training: distortion -log p(x|z) (nats)",
    "kl": "training: rate, KL to the prior (nats)", "s": "noise variance s of the likelihood (unit of the model)",
}  # fmt: skip


def of_subject(subject: Any, bench: Bench) -> Portrait:
    """Whatever can be had: what cannot be measured is left out."""
    if importlib.util.find_spec("matplotlib") is None:
        return Portrait()  # nothing to draw with: nothing is measured
    with neutral(), kept_random():
        found: dict[str, Any] = {}
        for part in (_encodings, _rows, _samples, _traversed, _spectrum, _curves):
            found.update(_tried(part, subject, bench))
    return Portrait(**found)


def _tried(part: Callable[[Any, Bench], dict[str, Any]], subject: Any, bench: Bench) -> dict[str, Any]:
    """A picture that cannot be had is none of the user's errors."""
    try:
        return part(subject, bench)
    except CannotMeasure:
        return {}
    except Exception:
        if debugging():
            raise
        return {}


def _encodings(subject: Any, _: Bench) -> dict[str, Any]:
    mu, sigma = encodings(subject)
    noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(SEED), dtype=mu.dtype)
    size = sigma.abs().clamp_min(1e-12)
    kl = (0.5 * (mu**2 + size**2 - 1) - size.log()).mean(0)
    return {"z": (mu + sigma * noise)[:MAPPED].numpy(), "rates": kl.numpy()}


def _rows(subject: Any, _: Bench) -> dict[str, Any]:
    outputs, targets = reconstructions(subject)
    shape = example_shape(subject)
    n = _affordable(shape, MAPPED)
    errors = (outputs - targets).square().sum(1)
    some = torch.linspace(0, len(targets) - 1, min(n, SHOWN, len(targets))).long()
    real, made = (rows[some].reshape(-1, *shape).numpy() for rows in (targets, outputs))
    one_to_one = len(errors) == len(encodings(subject)[0])
    losses = {"losses": errors[:MAPPED].numpy(), "loss": "squared error"} if one_to_one else {}
    return {"real": real, "inputs": real, "outputs": made, **losses}


def _samples(subject: Any, _: Bench) -> dict[str, Any]:
    shape, units = example_shape(subject), encodings(subject)[0].shape[1]
    generator = torch.Generator().manual_seed(SEED)
    z = torch.randn(_affordable(shape, SHOWN), units, generator=generator, dtype=torch.float64)
    return {"samples": decode(subject, z).reshape(-1, *shape).numpy()}


def _traversed(subject: Any, bench: Bench) -> dict[str, Any]:
    mu, shape = encodings(subject)[0], example_shape(subject)
    rate = torch.from_numpy(_encodings(subject, bench)["rates"]).nan_to_num(-1.0)
    units = rate.argsort(descending=True)[:UNITS].tolist()
    at = torch.linspace(-REACH, REACH, STEPS, dtype=torch.float64)
    grid = mu[0].repeat(len(units), STEPS, 1)
    for i, unit in enumerate(units):
        grid[i, :, unit] = at
    made = decode(subject, grid.flatten(0, 1)).reshape(len(units), STEPS, *shape)
    return {"traversed": made.numpy(), "units": units, "at": at.numpy()}


def _spectrum(_: Any, bench: Bench) -> dict[str, Any]:
    found, objective = bench.get(Spectrum), bench.get(Objective)
    s = objective.noise_variance if objective.weight_known else math.nan
    if objective.bernoulli and found.bernoulli_eigenvalues:
        what = "variance of the data, as a share of the likelihood's"
        return {"eigenvalues": np.asarray(found.bernoulli_eigenvalues), "s": s, "variance": what}
    return {"eigenvalues": np.asarray(found.eigenvalues), "s": s}


def _curves(subject: Any, bench: Bench) -> dict[str, Any]:
    losses = subject.log.losses()
    curves = {"training loss, as the script computes it": tuple(zip(*losses, strict=True))} if losses else {}
    with suppress(CannotMeasure):
        objective = bench.get(Objective)
        pair = (
            (subject.steps[0].index, subject.main.index),
            (objective.noise_variance_first, objective.noise_variance),
        )
        if objective.weight_known and all(math.isfinite(s) for s in pair[1]):
            curves["noise variance s that the loss implies, first and last recorded step"] = pair
    return {"curves": curves}


def _affordable(shape: tuple[int, ...], most: int) -> int:
    return max(1, min(most, MOST_NUMBERS // max(1, math.prod(shape))))


# ---------------------------------------------------------------------- of our own
def of_trained(trained: Trained, data: Dataset, folder: Path) -> Portrait:
    """`folder` holds the log; rows are held-out ones."""
    from whyvae.models.priors import Standard
    from whyvae.sampling import draws, generated, latents, reconstructed

    seed = trained.config.seed
    rows = data.take(trained.held_out(data)[: _affordable(data.shape, MAPPED)])
    found = latents(trained, rows, torch.Generator().manual_seed(seed))
    shown = rows[:SHOWN]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        nll, kl, _ = trained.model(trained.codec.encode(rows))
        unit_rates = (0.5 * (found.mu**2 + found.sigma**2 - 1) - found.sigma.log()).mean(0)
        prior = trained.model.prior.draw(MAPPED)
    standard = isinstance(trained.model.prior, Standard)
    labels = data.labels[trained.held_out(data)[: len(rows)]] if data.labels is not None else None
    return Portrait(
        kind=data.kind if data.kind != "vector" else "", names=[c.name for c in data.columns], real=shown.numpy(),
        samples=generated(trained, draws(trained, len(shown), "prior", None, seed), seed=seed).numpy(), inputs=shown.numpy(),
        outputs=reconstructed(trained, shown).numpy(), z=found.z.numpy(), prior=prior.numpy(), standard=standard,
        labels=labels, losses=(nll + kl).numpy(), loss="negative ELBO (nats)", rates=unit_rates.numpy(),
        maps=("t-SNE", *(("UMAP",) if importlib.util.find_spec("umap") else ())), curves=read_curves(folder),
        **_moved(trained, rows[:1], unit_rates), **_variances(trained, data),
    )  # fmt: skip


def _moved(trained: Trained, row: Any, unit_rates: Any) -> dict[str, Any]:
    from whyvae.sampling import traversed

    units = unit_rates.nan_to_num(-1.0).argsort(descending=True)[:UNITS].tolist()
    made = traversed(trained, row, STEPS, REACH)[units]
    return {"traversed": made.numpy(), "units": units, "at": np.linspace(-REACH, REACH, STEPS)}


def _variances(trained: Trained, data: Dataset) -> dict[str, Any]:
    """Of the data as the model sees it, beside the variance of a Gaussian likelihood; nothing for other likelihoods."""
    variance = getattr(trained.model.likelihood, "variance", None)
    if variance is None or variance.dim():
        return {}
    which = np.linspace(0, len(data) - 1, min(len(data), _affordable(data.shape, MAPPED))).round().astype(int)
    rows = trained.codec.encode(data.take(which)).flatten(1).double().numpy()
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 / len(rows)
    return {"eigenvalues": values, "s": float(variance), "variance": "variance of the data (unit of the model)"}


def read_curves(folder: Path) -> dict[str, Any]:
    """From the log of a run folder; a line that was cut short is left out."""
    curves: dict[str, Any] = {}
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    read = []
    for line in lines:
        with suppress(json.JSONDecodeError):
            read.append(json.loads(line))
    for key, name in METRICS.items():
        points = [(line["step"], line[key]) for line in read if key in line]
        if points:
            curves[name] = tuple(zip(*points, strict=True))
    return curves
