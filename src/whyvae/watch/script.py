"""Runs a user's script, unmodified, as `__main__` in this process, watched."""

from __future__ import annotations

import random
import runpy
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whyvae.watch.subject import NothingSeen, Subject
from whyvae.watch.watcher import StopTraining, Watcher


@dataclass(slots=True)
class RunOutcome:
    """What came of running a script. `subject` is None when there is nothing to examine; `reason` says why."""

    subject: Subject | None
    reason: str = ""
    exit_code: int | None = None
    error: BaseException | None = None
    interrupted: bool = False


def run_script(
    target: str,
    args: list[str],
    *,
    module: bool = False,
    steps: int | None = None,
    seed: int | None = None,
) -> RunOutcome:
    """Runs `target` (a path, or a module name) with `args` and returns what was seen of it.

    A script that raises prints its own traceback, as it would alone; what it did until then is examined.
    """
    outcome = RunOutcome(None)
    _seed(seed)
    watcher = Watcher(stop_after=steps)
    with _as_main(target, args, module=module) as run:
        try:
            with watcher:
                run()
        except StopTraining:
            pass
        except SystemExit as stop:
            outcome.exit_code = _code(stop)
        except KeyboardInterrupt as stop:
            outcome.interrupted, outcome.error = True, stop
        except Exception as error:  # noqa: BLE001 - a user's error is a patient, not ours
            outcome.error = error
            _show(error)
        try:
            outcome.subject = Subject.of(watcher, target)
        except NothingSeen as nothing:
            outcome.reason = str(nothing)
    return outcome


def _seed(seed: int | None) -> None:
    if seed is None:
        return
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


def _code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    print(stop.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    """The script's traceback, without our frames on top of it."""
    here = str(Path(__file__).resolve().parents[1])
    frames = error.__traceback__
    while frames is not None and (
        frames.tb_frame.f_code.co_filename.startswith(here)
        or "runpy" in frames.tb_frame.f_code.co_filename
    ):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames or error.__traceback__)


@contextmanager
def _as_main(target: str, args: list[str], *, module: bool) -> Iterator[Any]:
    """argv, sys.path and `__main__` as the script expects them, and put back afterwards."""
    argv, path, main = sys.argv, list(sys.path), sys.modules.get("__main__")
    sys.argv = [target, *args]
    if module:
        sys.path.insert(0, str(Path.cwd()))

        def run() -> None:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(target).resolve().parent))

        def run() -> None:
            runpy.run_path(target, run_name="__main__")

    try:
        yield run
    finally:
        sys.argv, sys.path[:] = argv, path
        if main is not None:
            sys.modules["__main__"] = main
