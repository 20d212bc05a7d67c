"""Cross-validates a VAE on a user's data, searches better settings, and says whether they are better."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from whyvae.cluster import Cluster
from whyvae.data import Dataset
from whyvae.models.build import ModelConfig, resolved
from whyvae.plot import NoMatplotlib, importance, save
from whyvae.training.checkpoint import atomically
from whyvae.training.run import JSON, TrainConfig, TrainingFailed, length
from whyvae.tuning.folds import Folding, set_apart, split
from whyvae.tuning.objective import Objective, Scores, Settings, compared, cross_validated, part
from whyvae.tuning.search import (
    NAMES,
    Pruner,
    applied,
    defaults,
    finished,
    optuna_module,
    shares,
    study,
    suggested,
    trials_of,
)

Array = Any
Said = Callable[[str], None]
SCORE = {"elbo": "held-out negative ELBO (nats)", "samples": "quality of samples (1: as real)"}


@dataclass(frozen=True, slots=True)
class Plan:
    folding: Folding = field(default_factory=Folding)
    objective: Objective = "elbo"
    names: tuple[str, ...] = NAMES
    trials: int = 30
    timeout: float | None = None  # seconds for the search
    pruner: Pruner = "median"
    seeds: int = 3  # of the last comparison


@dataclass(frozen=True)
class Ground:
    """The data, which rows tuning may see, and the settings it starts from."""

    data: Dataset
    open: Dataset
    rows: tuple[Array, Array]  # open, set apart
    pairs: list[tuple[Array, Array]]  # folds of `open`
    default: Settings

    @classmethod
    def of(
        cls, data: Dataset, model: ModelConfig, config: TrainConfig, plan: Plan, groups: Array | None = None, *,
        apart: bool = True,
    ) -> Ground:  # fmt: skip
        """Likelihood and sizes that were left open are chosen by the open rows alone; `apart`: set rows apart.

        Raises:
            DataError, Unfit: the data, or these settings and folds, do not fit.
        """
        n = len(data)
        rows = set_apart(n, plan.folding, data.labels, groups) if apart else (range(n), range(0))
        opened = part(data, list(rows[0]))
        kept = None if groups is None else groups[list(rows[0])]
        pairs = split(len(opened), plan.folding, opened.labels, kept)
        fewest = min(len(fit) for fit, _ in pairs)
        return cls(data, opened, rows, pairs, (resolved(model, opened), length(config, fewest)))


def cross_validate(ground: Ground, plan: Plan, said: Said = lambda _: None) -> Scores:
    """The default, on every fold."""
    return _scored(ground, ground.default, plan, lambda fold, line: _fold(fold, line, ground, said))


def tune(ground: Ground, plan: Plan, folder: Path, said: Said = lambda _: None, cluster: Cluster | None = None) -> JSON:
    """The record, `tune.json` in `folder`. A search that was broken off there is gone on with. Trials run on
    `cluster`, as many at once as it has places; there none is stopped on its way.

    Raises:
        DataError: Optuna is not installed.
        TrainingFailed: no trial came to its end.
    """
    default = defaults(*ground.default, plan.names)
    found = study(folder, plan.objective, plan.pruner, plan.folding.seed, _resource(ground, plan))
    found.enqueue_trial(default, skip_if_exists=True)
    op = optuna_module()

    def settings(asked: Any) -> Settings:
        return applied(suggested(asked, default), *ground.default)

    def trial(asked: Any) -> float:
        scores = _scored(ground, settings(asked), plan, _pruning(op, asked, plan))
        asked.set_user_attr("scores", scores.to_dict())
        return scores.mean

    def heard(found: Any, ended: Any) -> None:
        best = f"best {found.best_value:.4g}" if any(t.state.name == "COMPLETE" for t in found.trials) else ""
        value = f" {ended.value:.4g}" if ended.state.name == "COMPLETE" else ""  # others end in another unit
        said(f"trial {finished(found)} of {plan.trials}: {ended.state.name.lower()}{value}  {best}")

    def stopped(found: Any, _: Any) -> None:
        if finished(found) >= plan.trials:  # others may have worked on it, too
            found.stop()

    left = plan.trials - finished(found)
    if left > 0 and cluster is not None:
        _spread(ground, plan, found, settings, cluster, heard)
    elif left > 0:
        found.optimize(trial, n_trials=left, timeout=plan.timeout, callbacks=[heard, stopped], catch=(TrainingFailed,))
    return _concluded(ground, plan, folder, found, said)


def _scored(ground: Ground, settings: Settings, plan: Plan, told: Callable[[int, JSON], None]) -> Scores:
    return cross_validated(ground.open, ground.pairs, plan.folding.folds, *settings, plan.objective, told)


def _spread(
    ground: Ground, plan: Plan, found: Any, settings: Callable[[Any], Settings], cluster: Cluster,
    heard: Callable[[Any, Any], None],
) -> None:  # fmt: skip
    """Asks for as many trials as the cluster has places, and for another when one has ended."""
    data, pairs, began = cluster.shared(ground.open), cluster.shared(ground.pairs), time.monotonic()
    waiting: dict[Any, Any] = {}
    while True:
        in_time = plan.timeout is None or time.monotonic() - began < plan.timeout
        while in_time and len(waiting) < cluster.places and finished(found) + len(waiting) < plan.trials:
            asked = found.ask()
            call = cluster.call(_elsewhere, data, pairs, plan.folding.folds, settings(asked), plan.objective)
            waiting[call] = asked
        if not waiting:
            return
        ended, scores = cluster.first(waiting)
        asked = waiting.pop(ended)
        if isinstance(scores, Scores):
            asked.set_user_attr("scores", scores.to_dict())
            heard(found, found.tell(asked, scores.mean))
        else:
            heard(found, found.tell(asked, state=optuna_module().trial.TrialState.FAIL))


def _elsewhere(data: Dataset, pairs: Any, folds: int, settings: Settings, objective: Objective) -> Scores | None:
    """On a node of the cluster; None where a training failed."""
    try:
        return cross_validated(data, pairs, folds, *settings, objective)
    except TrainingFailed:
        return None


def _fold(fold: int, line: JSON, ground: Ground, said: Said) -> None:
    if "score" in line:
        said(f"fold {fold + 1} of {len(ground.pairs)}: {line['score']:.4g}")


def _resource(ground: Ground, plan: Plan) -> int:
    """Reports a whole trial makes."""
    return ground.default[1].checks if plan.objective == "elbo" else len(ground.pairs)


def _pruning(op: Any, trial: Any, plan: Plan) -> Callable[[int, JSON], None]:
    """Within the first fold by the held-out ELBO, whose unit and rows all trials share; for samples after each fold."""
    seen = 0

    def told(fold: int, line: JSON) -> None:
        nonlocal seen
        key = "held_out" if plan.objective == "elbo" and fold == 0 else "mean" if plan.objective == "samples" else ""
        if key in line:
            seen += 1
            trial.report(line[key], seen)
            if trial.should_prune():
                raise op.TrialPruned

    return told


def _concluded(ground: Ground, plan: Plan, folder: Path, found: Any, said: Said) -> JSON:
    done = [trial for trial in found.trials if trial.state.name == "COMPLETE"]
    if not done:
        raise TrainingFailed("no trial came to its end: a smaller --lr, or a larger --timeout may help")
    best, default = found.best_trial, defaults(*ground.default, plan.names)
    same = best.params == default
    record: JSON = {
        "schema": 1, "source": ground.data.source, "objective": plan.objective, "plan": asdict(plan), "default": default,
        "best": best.params, "best_scores": best.user_attrs["scores"],
        "default_scores": next((t.user_attrs["scores"] for t in done if t.params == default), None),
        "importance": shares(found), "trials": trials_of(found), "comparison": None,
    }  # fmt: skip
    if not same:
        said(f"{len(ground.rows[1])} rows set apart: default and tuned, {plan.seeds} seeds each")
        tuned = applied(best.params, *ground.default)
        record["comparison"] = compared(
            ground.data, list(ground.rows[0]), list(ground.rows[1]), ground.default, tuned, plan.objective, plan.seeds,
            lambda seed: said(f"seed {seed + 1} of {plan.seeds}"),
        ).to_dict()  # fmt: skip
    record["verdict"] = "the default is the best that was tried" if same else record["comparison"]["verdict"]
    text = json.dumps(record, indent=1)
    atomically(folder / "tune.json", (text + "\n").encode())
    _draw(record, folder)
    plain: JSON = json.loads(text)  # what is returned is what is written
    return plain


def _draw(record: JSON, folder: Path) -> None:
    done = [trial for trial in record["trials"] if trial["state"] == "complete"]
    if not record["importance"]:
        return
    pairs = {n: ([t["params"][n] for t in done], [t["value"] for t in done]) for n in record["importance"]}
    where = {word: _first(done, record[key]) for word, key in (("default", "default"), ("best", "best"))}
    marked = {word: i for word, i in where.items() if i is not None}
    try:
        picture = importance(record["importance"], pairs, SCORE[record["objective"]], marked)
        save(picture, folder / "importance.png")
    except (NoMatplotlib, OSError):
        return


def _first(trials: list[JSON], params: JSON) -> int | None:
    return next((i for i, trial in enumerate(trials) if trial["params"] == params), None)
