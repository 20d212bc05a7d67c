"""Does each unit of a code stand for one of the factors the data were made from? For data whose factors are known.

Mutual information gap (Chen et al. 2018, NeurIPS; binned as by Locatello et al. 2019, ICML), and disentanglement,
completeness and informativeness by importances (DCI, Eastwood & Williams 2018, ICLR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # numpy array
BINS = 20  # of a unit, and of a factor with more values than that
TREES, LEAF = 50, 4  # of the forest that predicts a factor; fewest rows of a leaf
UNSEEN = 5  # one row in so many judges the forests


@dataclass(frozen=True, slots=True)
class Disentanglement:
    """All in [0, 1], larger is better. `gap`: what the most telling unit says of a factor beyond the second one, as a
    share of the factor's entropy, mean over factors. `modularity`: does a unit matter for one factor only;
    `completeness`: is a factor told by one unit only (DCI; its authors call the first *disentanglement*);
    `informativeness`: how well factors are predicted from the whole code on rows not fitted (accuracy above guessing,
    or R^2), mean over factors.
    """

    gap: float
    modularity: float
    completeness: float
    informativeness: float
    rows: int

    def describe(self) -> str:
        return (
            f"factors, {self.rows} rows: mutual information gap {self.gap:.2f}, modularity {self.modularity:.2f}, completeness "
            f"{self.completeness:.2f}, informativeness {self.informativeness:.2f}"
        )


def disentanglement(codes: Array, factors: Array, seed: int = 0) -> Disentanglement:
    """
    `codes` [n, units], posterior means; `factors` [n, k], numbers or labels, or [n] for one.

    Raises:
        ValueError: shapes that do not fit, too few rows, or a factor that never changes.
    """
    codes = np.asarray(codes, np.float64)
    factors = checked(factors, len(codes))
    importance, told = _importances(codes, factors, seed)
    return Disentanglement(gap(codes, factors), *dci(importance), told, len(codes))


def checked(factors: Array, rows: int) -> Array:
    """[rows, k].

    Raises:
        ValueError: see `disentanglement`.
    """
    factors = np.asarray(factors)
    if factors.ndim not in {1, 2} or len(factors) != rows:
        raise ValueError(f"factors: wanted a row for each of {rows} rows, got {list(factors.shape)}")
    factors = factors.reshape(rows, -1)
    if rows < 4 * UNSEEN:
        raise ValueError(f"factors: {4 * UNSEEN} rows are wanted, got {rows}")
    still = [i for i in range(factors.shape[1]) if len(np.unique(factors[:, i])) < 2]
    if still:
        raise ValueError(f"factors: column {still[0] + 1} has one value only")
    return factors


def gap(codes: Array, factors: Array) -> float:
    """Mutual information gap, of `codes` [n, units] about `factors` [n, k]."""
    units = [_binned(c) for c in codes.T]
    found = []
    for factor in factors.T:
        v = _binned(factor)
        told = sorted((_information(u, v) for u in units), reverse=True)
        found.append((told[0] - (told[1] if len(told) > 1 else 0.0)) / _entropy(np.bincount(v)))
    return float(np.mean(found))


def dci(importance: Array) -> tuple[float, float]:
    """(modularity, completeness) of importances [units, factors], 0 or more: one minus the entropy of rows and of
    columns, each weighted by its share of all importance.
    """
    total = importance.sum()
    if total <= 0:
        return 0.0, 0.0
    rows = sum(r.sum() / total * (1 - _entropy(r) / np.log(max(2, len(r)))) for r in importance if r.sum() > 0)
    columns = sum(c.sum() / total * (1 - _entropy(c) / np.log(max(2, len(c)))) for c in importance.T if c.sum() > 0)
    return float(rows), float(columns)


def _binned(values: Array) -> Array:
    """Whole numbers 0, 1, ...: as they are where there are few, else BINS bins of equal width."""
    labels = np.unique(values, return_inverse=True)[1].reshape(-1)
    if labels.max() < BINS:
        return labels
    return np.digitize(values, np.histogram_bin_edges(values, BINS)[1:-1])


def _information(a: Array, b: Array) -> float:
    """Mutual information of two columns of whole numbers, nats."""
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1)
    return _entropy(joint.sum(1)) + _entropy(joint.sum(0)) - _entropy(joint.ravel())


def _entropy(counts: Array) -> float:
    """Of the distribution proportional to `counts`, nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _importances(codes: Array, factors: Array, seed: int) -> tuple[Array, float]:
    """Importances [units, factors] of forests that predict each factor, and how well they do on other rows."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    order = np.random.default_rng(seed).permutation(len(codes))
    unseen, fit = order[: len(codes) // UNSEEN], order[len(codes) // UNSEEN :]
    importance, told = [], []
    options = {"n_estimators": TREES, "min_samples_leaf": LEAF, "random_state": seed}
    for factor in factors.T:
        values = np.unique(factor, return_inverse=True)[1].reshape(-1)
        few = values.max() < BINS
        target = values if few else factor.astype(np.float64)
        forest = (RandomForestClassifier if few else RandomForestRegressor)(**options).fit(codes[fit], target[fit])
        score = forest.score(codes[unseen], target[unseen])
        if few:
            guessed = float(np.mean(target[unseen] == np.bincount(target[fit]).argmax()))
            score = (score - guessed) / (1 - guessed) if guessed < 1 else 0.0
        importance.append(forest.feature_importances_)
        told.append(max(0.0, float(score)))
    return np.stack(importance, 1), float(np.mean(told))
