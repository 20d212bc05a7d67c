"""`whyvae fix`: the diagnosis, the cure proven by retraining the script, and the patch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whyvae.command_run import FINDINGS, HEALTHY, complain, unfit

if TYPE_CHECKING:
    from rich.console import Console

    from whyvae.treat.engine import Engine
    from whyvae.treat.length import Budget
    from whyvae.treat.patch import Patch
    from whyvae.treat.tried import Trial

JSON = dict[str, Any]


def budget(text: str) -> Budget:
    """`1.5`: so many times one training run; `300s`: seconds.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    from whyvae.treat.length import Budget

    number = text.removesuffix("s")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no budget: give a share of one training run (1.5), or seconds (300s)"
        )
    return Budget(seconds=value) if text.endswith("s") else Budget(share=value, floor=0.0)


def fix_command(options: argparse.Namespace) -> int:
    from whyvae.watch.notebook import SUFFIX

    target, *args = options.target
    if reason := unfit(target, module=options.module):
        return complain(reason)
    if target.endswith(SUFFIX):
        return complain(
            f"{target} is a notebook, and fix edits scripts; save it as one: jupyter nbconvert --to script {target}"
        )
    if options.resume is not None and not (Path(options.resume) / "control").is_dir():
        return complain(f"{options.resume} is no folder of an earlier fix: it has no control run in it")
    engine = _engine(options)
    if isinstance(engine, str):
        return complain(engine)
    json_path = Path(options.json).resolve() if options.json not in (None, "-") else None
    return _fix(options, target, args, engine, json_path)


def _fix(options: argparse.Namespace, target: str, args: list[str], engine: Engine, json_path: Path | None) -> int:
    from rich.console import Console

    from whyvae.treat.arm import Spec
    from whyvae.treat.length import Budget
    from whyvae.treat.told import cured_record, render
    from whyvae.treat.trial import Treating

    console = Console(stderr=options.json == "-")
    folder = _folder(options, target)
    base = Spec(
        target, "", tuple(args), module=options.module, steps=options.steps, seed=options.seed,
        select=options.select and tuple(options.select), ignore=options.ignore and tuple(options.ignore),
    )  # fmt: skip
    told = (lambda _: None) if options.quiet else _told
    treating = Treating(base, folder, engine, options.budget or Budget(), options.seeds, told)
    trial = treating.control("stderr" if options.json == "-" else "stdout")
    if "record" not in trial.control:
        return complain(f"could not examine {target}: {trial.control.get('failed') or 'interrupted'}")
    if not options.quiet:
        _print_diagnosis(console, trial)
    treating.treat()
    patch = _patch(trial)
    written = str(patch.write(folder)) if patch else None
    applied = bool(options.apply and patch and _apply(patch))
    record = cured_record(trial, written, str(_root(trial)), applied=applied)
    _write(record, folder, json_path)
    _pictures(trial, folder)
    if options.json == "-":
        print(json.dumps(record, indent=1))
    console.print(render(record, quiet=options.quiet))
    return _status(trial, applied=applied)


def _engine(options: argparse.Namespace) -> Engine | str:
    from whyvae.cluster import NoCluster
    from whyvae.treat.engine import local, ray_cluster

    if options.engine == "local":
        return local(options.jobs)
    try:
        return ray_cluster(options.address)
    except NoCluster as error:
        return str(error)


def _folder(options: argparse.Namespace, target: str) -> Path:
    if options.resume is not None:
        return Path(options.resume).resolve()
    from whyvae.api import unused_folder

    stem = target.rpartition(".")[2] if options.module else Path(target).stem
    return unused_folder(Path(options.out).resolve(), stem)


def _told(line: str) -> None:
    print(f"whyvae: {line}", file=sys.stderr, flush=True)


def _print_diagnosis(console: Console, trial: Trial) -> None:
    from whyvae.report import Report

    console.print(Report(trial.control["record"]))


def _patch(trial: Trial) -> Patch | None:
    from whyvae.treat.patch import Patch

    sources = trial.sources
    return Patch({path: trial.originals[path] for path in sources}, sources, _root(trial)) if sources else None


def _root(trial: Trial) -> Path:
    """Where the patch is to be applied: here, if all it changes lies below."""
    here, folders = Path.cwd(), [str(Path(path).resolve().parent) for path in trial.sources]
    inside = all(Path(folder).is_relative_to(here) for folder in folders)
    return here if inside else Path(os.path.commonpath(folders))


def _apply(patch: Patch) -> bool:
    from whyvae.treat.patch import Changed

    try:
        patch.apply()
    except (Changed, OSError) as error:
        complain(f"the patch was not applied: {error}")
        return False
    return True


def _write(record: JSON, folder: Path, json_path: Path | None) -> None:
    """A full disk or a forbidden folder costs the file, not the verdict."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        if json_path is not None:
            json_path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    except OSError as error:
        complain(f"the record could not be written: {error}")


def _pictures(trial: Trial, folder: Path) -> None:
    from whyvae.treat.pictures import before_and_after

    if trial.taken:
        before_and_after(folder / "control", Path(trial.taken[-1].folder), folder / "before-after.png")


def _status(trial: Trial, *, applied: bool) -> int:
    """0: nothing was to be cured, or the file has been, and is healthy."""
    if not trial.taken:
        return HEALTHY if trial.healthy_after else FINDINGS
    return HEALTHY if applied and trial.healthy_after else FINDINGS
