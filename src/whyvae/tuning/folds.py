"""Which rows train and which judge: scikit-learn's splitters, chosen by what must not be torn apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whyvae.models.build import Unfit

Array = Any
Pair = tuple[Array, Array]  # positions of rows that train, and of rows that judge
APART = 5  # one row in this many is set apart: no tuning sees it


@dataclass(frozen=True, slots=True)
class Folding:
    folds: int = 5
    repeats: int = 1
    stratified: bool = False  # each fold has its share of every label
    seed: int = 0


def split(n: int, folding: Folding, labels: Array | None = None, groups: Array | None = None) -> list[Pair]:
    """`folds` x `repeats` pairs; rows of one group [n] stand on one side.

    Raises:
        Unfit: the rows, labels or groups do not allow it.
    """
    _checked(n, folding, labels, groups)
    pairs: list[Pair] = []
    for repeat in range(folding.repeats):
        splitter = _splitter(folding, folding.seed + repeat, grouped=groups is not None)
        try:
            pairs += splitter.split(np.zeros((n, 1)), labels if folding.stratified else None, groups)
        except ValueError as error:
            raise Unfit(f"no such folds: {error}") from error
    return pairs


def set_apart(n: int, folding: Folding, labels: Array | None = None, groups: Array | None = None) -> Pair:
    """Rows to tune on, and rows that neither the tuned model nor the default is tuned on."""
    return split(n, replace(folding, folds=APART, repeats=1, seed=folding.seed + 7919), labels, groups)[0]


def _splitter(folding: Folding, seed: int, *, grouped: bool) -> Any:
    from sklearn import model_selection as ms

    options = {"n_splits": folding.folds, "shuffle": True, "random_state": seed}
    if grouped:
        return ms.StratifiedGroupKFold(**options) if folding.stratified else ms.GroupKFold(**options)
    return ms.StratifiedKFold(**options) if folding.stratified else ms.KFold(**options)


def _checked(n: int, folding: Folding, labels: Array | None, groups: Array | None) -> None:
    if folding.folds < 2 or folding.folds > n:
        raise Unfit(f"{folding.folds} folds of {n} rows: 2 or more are wanted, and no more than rows")
    if folding.repeats < 1:
        raise Unfit(f"{folding.repeats} repeats: 1 or more are wanted")
    if folding.stratified:
        if labels is None:
            raise Unfit("--stratified wants labels, and the data has none (--label COLUMN names those of a table)")
        fewest = int(np.unique(labels, return_counts=True)[1].min())
        if fewest < folding.folds:
            raise Unfit(f"--stratified: a label stands at {fewest} rows only, too few for {folding.folds} folds")
    if groups is not None:
        if len(groups) != n:
            raise Unfit(f"--groups holds {len(groups)} values for {n} rows")
        count = len(np.unique(groups))
        if count < folding.folds:
            raise Unfit(f"{count} groups do not fill {folding.folds} folds: use --folds {count}, or other groups")
