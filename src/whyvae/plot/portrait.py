"""All that the pictures of one VAE need, as plain arrays, and the pictures it makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from whyvae.plot.curves import course, rates, spectrum
from whyvae.plot.figure import NoMatplotlib, save
from whyvae.plot.latent import latent_map, principal, projected
from whyvae.plot.rows import panels, reconstructions, traversals

Array = Any
EMBEDDED = 500  # encodings, and half as many draws of the prior: t-SNE of them takes about a second


@dataclass(frozen=True)
class Portrait:
    """What is not known is None or empty, and its pictures are left out. Rows are [n, ...] in the unit of the data.

    `z` [n, units] are draws of the posterior, one an example; `prior` [m, units] draws of the prior, which is N(0, I) where
    `standard`. `traversed` [k, steps, ...] holds one example with each of `units` [k] moved to `at` [steps].
    """

    kind: str = ""  # image, sequence, table, vector; "": by the shape
    names: Sequence[str] = ()  # of columns
    real: Array | None = None
    samples: Array | None = None
    inputs: Array | None = None
    outputs: Array | None = None
    z: Array | None = None
    prior: Array | None = None
    standard: bool = True
    labels: Array | None = None
    losses: Array | None = None
    loss: str = "loss"
    rates: Array | None = None
    traversed: Array | None = None
    units: Sequence[int] = ()
    at: Array | None = None
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    eigenvalues: Array | None = None
    s: float = float("nan")
    variance: str = "variance of the data"
    maps: Sequence[str] = ()  # beside the principal directions: "t-SNE", "UMAP"


def hang(portrait: Portrait, folder: Path) -> list[Path]:
    """Draws what can be drawn into `folder`; without matplotlib nothing. What cannot be drawn costs nothing else."""
    made = []
    for name, draw in _pictures(portrait):
        try:
            made.append(save(draw(), folder / f"{name}.png"))
        except NoMatplotlib:
            return []
        except Exception:
            if os.environ.get("WHYVAE_DEBUG") == "1":
                raise
    return made


def _pictures(p: Portrait) -> Iterator[tuple[str, Callable[[], Any]]]:
    if p.real is not None and p.samples is not None:
        pair = (("real examples", p.real), ("samples from the prior", p.samples))
        yield "samples-beside-real", lambda: panels(pair, p.kind, p.names)
    if p.inputs is not None and p.outputs is not None:
        yield "reconstructions", lambda: reconstructions(p.inputs, p.outputs, p.kind, p.names)
    if p.rates is not None:
        yield "rates", lambda: rates(p.rates, "the prior" if p.standard else "N(0, 1)")
    if p.traversed is not None and p.rates is not None:
        rate = np.asarray(p.rates)[list(p.units)]
        yield "traversals", lambda: traversals(p.traversed, rate, p.at, p.kind, p.names, p.units)
    if p.curves:
        yield "course", lambda: course(p.curves)
    if p.eigenvalues is not None:
        yield "spectrum", lambda: spectrum(p.eigenvalues, p.s, p.variance)
    if p.z is not None:
        yield "latent-map", lambda: _flat(p)
        for method in p.maps:
            yield f"latent-map-{method.lower()}", partial(_embedded, p, method)


def _flat(p: Portrait) -> Any:
    z = np.asarray(p.z, np.float64)
    axes = principal(z[np.isfinite(z).all(1)])
    prior = None if p.prior is None or p.standard else p.prior @ axes
    name = "two principal directions" if z.shape[1] > 2 else "the two units" if z.shape[1] == 2 else "the one unit"
    return latent_map(
        z @ axes, prior, labels=p.labels, losses=p.losses, loss=p.loss, name=name, circles=p.standard
    )  # fmt: skip


def _embedded(p: Portrait, method: str) -> Any:
    z = np.asarray(p.z)
    some = np.linspace(0, len(z) - 1, min(len(z), EMBEDDED)).round().astype(int)
    points, prior = projected(z[some], np.asarray(p.prior)[: EMBEDDED // 2], method)
    labels, losses = (None if v is None else np.asarray(v)[some] for v in (p.labels, p.losses))
    return latent_map(points, prior, labels=labels, losses=losses, loss=p.loss, name=method)
