"""`whyvae tune`: its options, and what stands between those and the exit status."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whyvae.command_run import HEALTHY, complain
from whyvae.train_options import (
    Commands,
    add_data,
    add_settings,
    loaded,
    reading_of,
    settings_of,
    told_in_one_line,
)

if TYPE_CHECKING:
    from rich.console import Console

    from whyvae.cluster import Cluster
    from whyvae.models.build import ModelConfig
    from whyvae.training.run import TrainConfig
    from whyvae.tune import Plan

JSON = dict[str, Any]
SEARCHED = ("lr", "latents", "width", "kl_weight", "batch")
UNITS = {
    "elbo": "negative ELBO on rows not trained on, nats (smaller is better)",
    "samples": "quality of samples (larger is better)",
}
EPILOG = "exit status: 0 done, whether or not anything better was found; 2 could not (the reason on stderr)"


def add_tune(commands: Commands) -> None:
    command = commands.add_parser(
        "tune", help="cross-validate a VAE on your data, and search better settings", epilog=EPILOG, allow_abbrev=False,
        description="Cross-validates the VAE of `whyvae train`, searches better settings, and compares the best with the "
        "default on rows neither was tuned on. Several processes may work on one search: --resume RUN in each.",
    )  # fmt: skip
    add_data(command, "go on with a search, with its data and settings")
    add = command.add_argument
    add("-q", "--quiet", action="store_true", help="print the result only")
    add("--cv-only", action="store_true", help="cross-validate the settings given, search nothing")
    _add_search(command.add_argument_group("search"))
    add_settings(command)
    command.set_defaults(call=tune_command, fail=command.error)


def _add_search(group: Any) -> None:
    add = group.add_argument
    add("--trials", metavar="N", type=int, help="settings tried (default 30)")
    add("--timeout", metavar="S", type=float, help="seconds after which no trial is begun")
    add("--objective", choices=("elbo", "samples"), default="elbo", help="what is better: %(choices)s (%(default)s)")
    add("--search", metavar="NAMES", type=_names, default=SEARCHED, help=f"of {','.join(SEARCHED)} (all)")
    add("--folds", metavar="K", type=int, default=5, help="of the cross-validation (%(default)s)")
    add("--repeats", metavar="N", type=int, default=1, help="of the folds, cut anew (%(default)s)")
    add("--stratified", action="store_true", help="every fold has its share of each label")
    add("--groups", metavar="FILE", help=".npy with one value a row: rows of one group stay together")
    add("--pruner", choices=("median", "hyperband", "none"), default="median", help="stops poor trials (%(default)s)")
    add("--seeds", metavar="N", type=int, default=3, help="trainings of each in the last comparison (%(default)s)")
    add("--engine", choices=("local", "ray"), default="local", help="where trials run (%(default)s)")
    add("--address", metavar="HOST", help="of a Ray cluster; without it Ray starts one here")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.replace("-", "_").split(","))
    if unknown := set(names) - set(SEARCHED):
        raise argparse.ArgumentTypeError(
            f"no setting is called {', '.join(sorted(unknown))}; known: {', '.join(SEARCHED)}"
        )
    return names


def tune_command(options: argparse.Namespace) -> int:
    if (options.data is None) == (options.resume is None):
        options.fail("give DATA, or --resume RUN")
    try:
        reading, model, config, plan, groups = _settings(options)
        return _tune(options, reading, model, config, plan, groups)
    except told_in_one_line() as error:
        return complain(str(error))


def _settings(options: argparse.Namespace) -> tuple[JSON, ModelConfig, TrainConfig, Plan, str | None]:
    from whyvae.data import DataError
    from whyvae.models.build import ModelConfig
    from whyvae.training.run import TrainConfig
    from whyvae.tune import Plan
    from whyvae.tuning.folds import Folding

    if options.resume is not None:
        try:
            held = json.loads((Path(options.resume) / "settings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{options.resume} is no run folder of `whyvae tune`: it has no readable settings.json"
            ) from error
        plan = {**held["plan"], "folding": Folding(**held["plan"]["folding"]), "names": tuple(held["plan"]["names"])}
        plan["trials"] = options.trials or plan["trials"]
        return (
            held["data"],
            ModelConfig.from_dict(held["model"]),
            TrainConfig(**held["train"]),
            Plan(**plan),
            held["groups"],
        )
    folding = Folding(options.folds, options.repeats, options.stratified, options.seed)
    made = Plan(
        folding, options.objective, options.search, options.trials or 30, options.timeout, options.pruner, options.seeds
    )
    groups = str(Path(options.groups).resolve()) if options.groups else None
    return reading_of(options), *settings_of(options), made, groups


def _tune(
    options: argparse.Namespace, reading: JSON, model: ModelConfig, config: TrainConfig, plan: Plan, groups: str | None
) -> int:
    import numpy as np
    from rich.console import Console

    from whyvae.reference import new_folder
    from whyvae.tune import Ground, cross_validate, tune
    from whyvae.tuning.search import optuna_module

    if not options.cv_only:
        optuna_module()  # said before the data is read
    cluster = _cluster(options)
    data = loaded(options, reading)
    marks = np.load(groups, allow_pickle=False) if groups else None
    ground = Ground.of(data, model, config, plan, marks, apart=not options.cv_only)
    console = Console(stderr=options.json == "-")
    said = (lambda _: None) if options.quiet else _told
    if options.cv_only:
        scores = cross_validate(ground, plan, said).to_dict()
        record = {"schema": 1, "source": data.source, "objective": plan.objective, "default_scores": scores}
        console.print(f"{UNITS[plan.objective]}:\n  {_interval(scores)}")
    else:
        folder = Path(options.resume) if options.resume else new_folder(Path(options.out), reading["source"])
        _write_settings(
            folder,
            {"data": reading, "model": asdict(model), "train": asdict(config), "plan": asdict(plan), "groups": groups},
        )
        record = tune(ground, plan, folder, said, cluster)
        _print(console, record, folder, quiet=options.quiet)
    if options.json:
        text = json.dumps(record, indent=1)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n", encoding="utf-8")
    return HEALTHY


def _cluster(options: argparse.Namespace) -> Cluster | None:
    from whyvae.cluster import Cluster

    return Cluster(options.address) if options.engine == "ray" and not options.cv_only else None


def _write_settings(folder: Path, held: JSON) -> None:
    (folder / "settings.json").write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")


def _told(line: str) -> None:
    print(f"whyvae: {line}", file=sys.stderr, flush=True)


def _interval(scores: JSON) -> str:
    low, high = scores["ci95"]
    return f"{scores['mean']:.4g}, 95 % interval {low:.4g} to {high:.4g} over {len(scores['folds'])} folds"


def _print(console: Console, record: JSON, folder: Path, *, quiet: bool) -> None:
    """The verdict last: that is where one looks."""
    from rich.table import Table

    if not quiet:
        table = Table("setting", "default", "best", "share of what changed the score")
        for name, value in record["default"].items():
            share = record["importance"].get(name)
            table.add_row(
                name, f"{value:.4g}", f"{record['best'][name]:.4g}", "not known" if share is None else f"{share:.0%}"
            )
        console.print(table)
        console.print(UNITS[record["objective"]])
        for name in ("default", "best"):
            if record[f"{name}_scores"]:
                console.print(f"  {name}: {_interval(record[f'{name}_scores'])}")
        if record["comparison"]:
            console.print(_compared(record["comparison"]))
        made = [name for name in ("tune.json", "importance.png") if (folder / name).is_file()]
        console.print(f"in {folder}: {', '.join(made)}")
    console.print(record["verdict"][0].upper() + record["verdict"][1:])


def _compared(found: JSON) -> str:
    interval = f", 95 % interval {found['ci95'][0]:.3g} to {found['ci95'][1]:.3g}" if found["ci95"] else ""
    return (
        f"on {found['rows']} rows neither was tuned on, {found['seeds']} seeds: default {found['default']:.4g}, tuned "
        f"{found['tuned']:.4g}, better by {found['gain']:.3g}{interval}"
    )
