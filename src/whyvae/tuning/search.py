"""The search: settings that may change, a study of Optuna in a journal that can be gone on with, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whyvae.data.raw import needed
from whyvae.models.build import ModelConfig
from whyvae.training.run import TrainConfig
from whyvae.tuning.objective import Objective, Settings

if TYPE_CHECKING:
    import optuna

Pruner = Literal["median", "hyperband", "none"]
NAMES = ("lr", "latents", "width", "kl_weight", "batch")
STARTUP = 8  # trials before the sampler learns, and before anything is pruned
JOURNAL = "study.journal"


def defaults(model: ModelConfig, config: TrainConfig, names: tuple[str, ...]) -> dict[str, Any]:
    """The settings among `names` that this model has, at their default."""
    found = {
        "lr": config.lr,
        "latents": model.latents,
        "width": 1.0,
        "kl_weight": config.kl_weight,
        "batch": config.batch,
    }
    useless = {"width" if not model.widths else "", "kl_weight" if config.kl_weight <= 0 else ""}
    return {name: found[name] for name in names if name not in useless}


def suggested(trial: Any, default: dict[str, Any]) -> dict[str, Any]:
    """Around each default, on a logarithmic scale; of the KL weight 1, its place in the ELBO, is always within."""
    ask: dict[str, Callable[[], Any]] = {
        "lr": lambda: trial.suggest_float("lr", default["lr"] / 10, default["lr"] * 5, log=True),
        "latents": lambda: trial.suggest_int(
            "latents", max(1, default["latents"] // 4), 4 * default["latents"], log=True
        ),
        "width": lambda: trial.suggest_categorical("width", [0.5, 1.0, 2.0]),
        "kl_weight": lambda: trial.suggest_float(
            "kl_weight", min(1.0, default["kl_weight"]) / 8, max(1.0, default["kl_weight"]) * 4, log=True
        ),
        "batch": lambda: trial.suggest_categorical("batch", [max(1, default["batch"] // 2), default["batch"], 2 * default["batch"]]),
    }  # fmt: skip
    return {name: ask[name]() for name in default}


def applied(params: dict[str, Any], model: ModelConfig, config: TrainConfig) -> Settings:
    widths = tuple(max(4, round(w * params.get("width", 1.0))) for w in model.widths)
    model = replace(model, widths=widths, latents=params.get("latents", model.latents))
    return model, replace(config, **{name: params[name] for name in ("lr", "kl_weight", "batch") if name in params})


def study(folder: Path, objective: Objective, pruner: Pruner, seed: int, resource: int) -> optuna.Study:
    """A new study in `folder`, or the one that is there. Several processes may work on it.

    Raises:
        DataError: Optuna is not installed.
    """
    op = optuna_module()
    op.logging.set_verbosity(op.logging.WARNING)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    found: optuna.Study = op.create_study(
        storage=storage, study_name="whyvae", load_if_exists=True, direction="minimize" if objective == "elbo" else "maximize",
        pruner=_pruner(op, pruner, resource),
    )  # fmt: skip
    # another seed for each process that goes on, or it would ask what was asked before
    found.sampler = op.samplers.TPESampler(seed=seed + len(found.trials), n_startup_trials=STARTUP)
    return found


def optuna_module() -> Any:
    return needed("optuna", "whyvae[tune]", "tuning")


def _pruner(op: Any, name: Pruner, resource: int) -> Any:
    if name == "none":
        return op.pruners.NopPruner()
    if name == "hyperband":
        return op.pruners.HyperbandPruner(min_resource=max(1, resource // 9), max_resource=resource)
    return op.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=resource // 5)


def finished(found: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in found.trials)


def shares(found: optuna.Study) -> dict[str, float]:
    """How much of the score's variance over trials each setting explains (fANOVA, Hutter et al. 2014); empty where that
    cannot be told.
    """
    op = optuna_module()
    evaluator = op.importance.FanovaImportanceEvaluator(seed=0)
    try:
        told: dict[str, float] = op.importance.get_param_importances(found, evaluator=evaluator)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}
    return {name: share for name, share in told.items() if math.isfinite(share)}


def trials_of(found: optuna.Study) -> list[dict[str, Any]]:
    """In plain words and numbers, for the record."""
    return [
        {
            "number": t.number,
            "state": t.state.name.lower(),
            "value": t.value if t.state.name == "COMPLETE" else None,
            "params": dict(t.params),
            **t.user_attrs,
        }
        for t in found.trials
    ]
