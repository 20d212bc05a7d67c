"""How good are generated rows? Scores without downloaded weights, each next to what real rows score against real rows.

Precision and recall (Kynkaanniemi et al. 2019, NeurIPS), density and coverage (Naeem et al. 2020, ICML), sliced
Wasserstein distance (Bonneel et al. 2015), kernel distance with a cubic polynomial (Binkowski et al. 2018, ICLR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from whyvae.distances import Half, Other, gap, nearest, off_diagonal, one_sided, polynomial, squared_distances
from whyvae.features import Features, Scaled, features_for

PROJECTIONS = 256
SPLITS = 12
MOST = 512  # rows a side: all scores depend on their number, so both sides have as many
FEWEST = 16
SURE = 4.0  # null standard deviations; of 12 splits they are known to a fifth only
MATERIAL = 0.9  # of what real rows reach
DENSE = 1.25  # times as dense as real rows lie: drawn towards the middle

Kind = Literal["as real", "noise", "shrunk", "modes missing", "noise and modes missing", "shifted", "copies"]
SAYS: dict[Kind, str] = {
    "as real": "no score tells the samples from real examples",
    "noise": "many samples lie where no real example does (noise, garbage, or draws from holes); the variety is there",
    "shrunk": "samples crowd in the middle of the data (blur, or drawn towards the mean); the variety is not there",
    "modes missing": "samples look real, but parts of the data are never generated",
    "noise and modes missing": "most samples lie where no real example does, and parts of the data are never generated",
    "shifted": "each sample is plausible, but their distribution is not that of the data",
    "copies": "many samples are near copies of real examples: no other score counts then",
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One score. `null` and `null_sd`: mean and standard deviation of what real rows score against real rows, equally
    many, over splits. `floor`: what a generator would score that puts out nothing but the mean.
    """

    value: float
    null: float
    null_sd: float
    floor: float

    @property
    def worse(self) -> float:
        """How much worse than real rows, in null standard deviations; negative is better."""
        return (self.value - self.null) / self.null_sd * (1 if self.floor > self.null else -1)

    @property
    def share(self) -> float:
        """1: as real rows; 0: as the mean repeated; below 0: worse than that."""
        return (self.value - self.floor) / (self.null - self.floor)

    @property
    def lost(self) -> bool:
        """Surely, and by enough to matter, worse than real rows."""
        return self.worse > SURE and self.share < MATERIAL


@dataclass(frozen=True, slots=True)
class Score:
    """`n` generated rows against as many real ones.

    `precision`: share of generated rows among real ones; `recall`: share of real rows among generated ones; `density`:
    how densely real rows lie around generated ones (may exceed 1); `coverage`: share of real rows with a generated row
    nearby; `sliced`: squared Wasserstein-2 distance, mean over directions; `kernel`: squared kernel distance, unbiased.
    `copies`: share of generated rows that are so near to one real row, compared with the next, as only 1 % of real
    rows are to each other; far more means that rows are repeated, and every other score flatters.
    """

    precision: Measure
    recall: Measure
    density: Measure
    coverage: Measure
    sliced: Measure
    kernel: Measure
    copies: float
    n: int

    @property
    def quality(self) -> float:
        """In [0, 1]: harmonic mean of the shares of density, coverage and recall; 1 is as good as real rows.

        One number for comparing generators: garbage has no density, lost modes no coverage, blur no recall.
        """
        parts = [min(1.0, max(0.0, m.share)) for m in (self.density, self.coverage, self.recall)]
        return 3 / sum(1 / p for p in parts) if min(parts) > 0 else 0.0

    def kind(self) -> Kind:
        """What is wrong with the generated rows, read from what is lost; `SAYS` puts it into words."""
        if self.copies > 0.01 + SURE * math.sqrt(0.01 * 0.99 / self.n):
            return "copies"
        dense = self.density.worse < -SURE and self.density.share > DENSE
        if self.recall.lost and dense:
            return "shrunk"
        if self.precision.lost:
            return "noise and modes missing" if self.recall.lost else "noise"
        if self.recall.lost or self.coverage.lost:
            return "modes missing"
        return "shifted" if self.sliced.lost or self.kernel.lost else "as real"


def score(real: Tensor, fake: Tensor, features: Features | None = None, seed: int = 0) -> Score:
    """Scores `fake` [m, ...] against `real` [n, ...], rows of the same shape and unit, in any range.

    `features` maps rows [k, ...] to [k, F]; its columns are centred and scaled by their spread over `real`. By default
    it follows the shape: see `features_for`. Nothing is trained, and the global random streams are left alone. Where
    `real` was trained on, `copies` tells repetition; on held-out rows it cannot.

    Raises:
        ValueError: shapes differ, fewer than 32 real or 16 generated rows, or values that are not finite.
    """
    return Reference(real, features, seed).score(fake)


class Reference:
    """The real side of scores, prepared once: generators scored with one Reference are compared on the same rows."""

    def __init__(self, real: Tensor, features: Features | None = None, seed: int = 0) -> None:
        _check("real", real, 2 * FEWEST)
        self._shape, self._seed = real.shape[1:], seed
        rows = _shuffled(real, 2 * MOST, seed)
        space, texture = (features, features) if features is not None else features_for(real, seed)
        self._space = Scaled(rows, space)
        self._texture = self._space if texture is space else Scaled(rows, texture)
        generator = torch.Generator().manual_seed(seed)
        raw = torch.randn(self._space.real.shape[1], PROJECTIONS, generator=generator, dtype=torch.float64)
        self._directions = raw / raw.norm(dim=0)
        self._orders = [torch.randperm(rows.shape[0], generator=generator) for _ in range(SPLITS)]
        self._projected = self._space.real @ self._directions
        self._prepared: dict[int, tuple[list[Half], Tensor]] = {}
        self._sorted: dict[int, tuple[list[Tensor], Tensor]] = {}

    @cached_property
    def _squares(self) -> Tensor:
        return squared_distances(self._space.real, self._space.real)

    @cached_property
    def _kernel(self) -> Tensor:
        return polynomial(self._texture.real, self._texture.real)

    @cached_property
    def _near_one(self) -> float:
        return float(one_sided(self._squares, itself=True).quantile(0.01))

    @property
    def rows(self) -> int:
        """Rows on each side of a score: half the real ones."""
        return len(self._projected) // 2

    def score(self, fake: Tensor) -> Score:
        """See `score`. With fewer generated rows than half the real ones, as few real rows are used."""
        fake = self._chosen(fake)
        n = fake.shape[0]
        halves, null = self._at(n)
        value = self._compared(fake, halves)
        floors = (*[0.0] * 4, self._floor, off_diagonal(self._kernel) - 1)
        least = torch.tensor([0.5 / n] * 4 + [1e-12] * 2, dtype=torch.float64)  # what shares of n rows resolve
        found = (value.mean(0), null.mean(0), torch.maximum(null.std(0), least))
        near_one = one_sided(squared_distances(self._space(fake), self._space.real)) < self._near_one
        measures = [Measure(*f) for f in zip(*(f.tolist() for f in found), floors, strict=True)]
        precision, recall, density, coverage, distance, kernel = measures
        return Score(precision, recall, density, coverage, distance, kernel, float(near_one.double().mean()), n)

    def sliced(self, fake: Tensor) -> Measure:
        """That score alone: where it is all that is asked, a third of the work or less."""
        fake = self._chosen(fake)
        n = fake.shape[0]
        if n not in self._sorted:
            pairs = [[self._projected[o[i : i + n]].sort(0).values for i in (0, n)] for o in self._orders]
            self._sorted[n] = [a for a, _ in pairs], torch.stack([gap(a, b) for a, b in pairs])
        halves, null = self._sorted[n]
        at = (self._space(fake) @ self._directions).sort(0).values
        value = torch.stack([gap(half, at) for half in halves]).mean()
        return Measure(float(value), float(null.mean()), max(float(null.std()), 1e-12), self._floor)

    @property
    def _floor(self) -> float:
        """Of the sliced distance: that of the mean repeated."""
        return float(self._space.real.square().mean())

    def _chosen(self, fake: Tensor) -> Tensor:
        _check("fake", fake, FEWEST)
        if fake.shape[1:] != self._shape:
            raise ValueError(f"fake: wanted rows of shape {list(self._shape)}, got {list(fake.shape[1:])}")
        return _shuffled(fake, self.rows, self._seed)

    def plausible(self, fake: Tensor) -> Tensor:
        """For each row of `fake` [m, ...]: in how many halves of the real rows it lies in a real neighbourhood, [m].

        Precision is its mean; here every row has its own, and all are compared with as many real rows.
        """
        across = squared_distances(self._space.real, self._space(fake))
        halves = self._at(self.rows)[0]
        inside = torch.stack([(across[h.rows] <= h.radius[:, None]).any(0) for h in halves])
        return inside.double().mean(0)

    def _at(self, n: int) -> tuple[list[Half], Tensor]:
        if n not in self._prepared:
            self._prepared[n] = self._halves(n)
        return self._prepared[n]

    def _compared(self, fake: Tensor, halves: list[Half]) -> Tensor:
        """The six scores of `fake` against each half, [splits, 6]."""
        at = self._space(fake)
        across = squared_distances(self._space.real, at)
        other = Other.of(squared_distances(at, at), at @ self._directions)
        texture = at if self._texture is self._space else self._texture(fake)
        apart = polynomial(self._texture.real, texture)
        spread = off_diagonal(polynomial(texture, texture))
        return torch.stack([half.compared(other, across[half.rows], apart[half.rows], spread) for half in halves])

    def _halves(self, n: int) -> tuple[list[Half], Tensor]:
        """Halves of n real rows, and what the other halves score against them, [splits, 6]."""
        at, made, null = self._projected, [], []
        for order in self._orders:
            a, b = order[:n], order[n : 2 * n]
            half = Half(a, nearest(self._squares[a][:, a]), at[a].sort(0).values, off_diagonal(self._kernel[a][:, a]))
            other = Other.of(self._squares[b][:, b], at[b])
            spread = off_diagonal(self._kernel[b][:, b])
            null.append(half.compared(other, self._squares[a][:, b], self._kernel[a][:, b], spread))
            made.append(half)
        return made, torch.stack(null)


def _shuffled(rows: Tensor, most: int, seed: int) -> Tensor:
    order = torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(seed))[:most]
    return rows[order.to(rows.device)]


def _check(name: str, rows: Tensor, fewest: int) -> None:
    if rows.dim() < 2 or rows[0].numel() == 0:
        raise ValueError(f"{name}: wanted [n, ...], got {list(rows.shape)}")
    if rows.shape[0] < fewest:
        raise ValueError(f"{name}: needs {fewest} rows, got {rows.shape[0]}")
    bad = int((~torch.isfinite(rows)).flatten(1).any(1).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {rows.shape[0]} rows are not finite")
