"""Runs a user's script, unmodified, as `__main__` in this process, watched."""

from __future__ import annotations

import builtins
import io
import os
import random
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from whyvae.watch.neutral import neutral
from whyvae.watch.notebook import SUFFIX, cells
from whyvae.watch.subject import Subject
from whyvae.watch.trainings import NothingSeen
from whyvae.watch.unbegun import Unbegun
from whyvae.watch.watcher import StopTraining, Watcher

_OURS = str(Path(__file__).resolve().parents[1]) + os.sep


@dataclass(slots=True)
class RunOutcome:
    """What came of running a script. `subject` is None when no training was seen; `reason` says why, and `unbegun` is what
    there is to see of one whose data kept it from beginning.
    """

    subject: Subject | None
    unbegun: Unbegun | None = None
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
    inside: AbstractContextManager[Any] | None = None,
    text: str | None = None,
    ratio: float | None = None,
) -> RunOutcome:
    """Runs `target` (a path, or a module name) with `args` and returns what was seen of it.

    A script that raises prints its own traceback, as it would alone; what it did until then is examined. `inside` is
    entered after the watcher and left before it. `text`: run as the contents of `target`, in place of what it holds.
    `ratio`: see Watcher.
    """
    outcome = RunOutcome(None)
    run = _module(target) if module else _script(target, text)
    watcher = Watcher(stop_after=steps, ratio=ratio)
    with _as_main([target, *args], str(Path.cwd() if module else Path(target).resolve().parent)):
        _seed(seed)
        try:
            with watcher, inside or nullcontext():
                run()
        except StopTraining:
            pass
        except SystemExit as stop:
            outcome.exit_code = _code(stop)
        except KeyboardInterrupt as stop:
            outcome.interrupted, outcome.error = True, stop
            print("whyvae: interrupted; what was trained until then is examined", file=sys.stderr)  # noqa: T201
        except BaseException as error:  # noqa: BLE001 - a user's error is a patient, not ours
            outcome.error = error
            _show(error)
    look(outcome, watcher, target)
    return outcome


def look(outcome: RunOutcome, watcher: Watcher, target: str) -> None:
    """Sets what was seen while it watched `target`, which ended with `outcome.error`."""
    try:
        with neutral():
            outcome.subject = Subject.of(watcher, target)
            outcome.subject.raised = numbers_ended(outcome.error)
    except NothingSeen as nothing:
        outcome.reason = str(nothing) + _stopped_by(outcome.error)
        if outcome.error is not None and watcher.backwards == 0:
            outcome.unbegun = Unbegun.of(watcher.unfinished, target, watcher.seconds)


def _stopped_by(error: BaseException | None) -> str:
    """What stopped the script before there was anything to see; its traceback stands above."""
    if not isinstance(error, Exception):
        return ""
    said = str(error).splitlines()[:1]
    return f"; it stopped with {type(error).__name__}" + (f": {said[0][:120]}" if said else "")


_NO_NUMBER = re.compile(
    r"satisfy the constraint|\b(nan|inf|infinite|isnan|isfinite|isinf|non-?finite|not finite)\b", re.IGNORECASE
)


def numbers_ended(error: BaseException | None) -> str:
    """What a script stopped with, where it stopped because a number was none: `Normal` refusing a scale of 0 or NaN."""
    if not isinstance(error, ValueError | ArithmeticError | AssertionError | RuntimeError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    said = f"{error} {frames[-1].line if frames else ''}"
    return (
        f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else frames[-1].line}"
        if _NO_NUMBER.search(said)
        else ""
    )


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
    print(stop.code, file=sys.stderr)  # noqa: T201 - as Python does
    return 1


def _show(error: BaseException) -> None:
    """The script's traceback, without our frames in it."""
    shown = traceback.TracebackException.from_exception(error)
    _without_us(shown)
    sys.stderr.write("".join(shown.format()))


def _without_us(shown: traceback.TracebackException | None) -> None:
    if shown is None:
        return
    ours = [f.filename.startswith(_OURS) or f.filename == "<frozen runpy>" for f in shown.stack]
    passed_on = bool(ours) and "(*args, **kwargs)" in (shown.stack[-1].line or "")  # a call of theirs, through us
    if ours and (passed_on or not ours[-1]):  # else it is our mistake, and should look like it
        theirs = [frame for frame, is_ours in zip(shown.stack, ours, strict=True) if not is_ours]
        shown.stack = traceback.StackSummary.from_list(theirs)
    _without_us(shown.__cause__)
    _without_us(shown.__context__)


def _script(target: str, text: str | None = None) -> Callable[[], None]:
    """As `python target` does it; `runpy.run_path` gives a `__file__` that is lost with a change of directory."""
    path = os.path.abspath(target)  # noqa: PTH100 - symbolic links stay, as in Python
    main = ModuleType("__main__")
    vars(main).update(
        __file__=path, __loader__=SourceFileLoader("__main__", path), __builtins__=builtins,
        __cached__=None, __annotations__={},
    )  # fmt: skip
    if path.endswith(SUFFIX):
        codes = cells(path)
        vars(main)["display"] = print  # IPython's
    elif text is None:
        with io.open_code(path) as file:
            codes = [compile(file.read(), path, "exec", dont_inherit=True)]
    else:
        codes = [compile(text, path, "exec", dont_inherit=True)]

    def run() -> None:
        sys.modules["__main__"] = main
        for code in codes:
            exec(code, vars(main))  # noqa: S102 - that is the job

    return run


def _module(target: str) -> Callable[[], None]:
    def run() -> None:
        runpy.run_module(target, run_name="__main__", alter_sys=True)

    return run


@contextmanager
def _as_main(argv: list[str], folder: str) -> Iterator[None]:
    """argv and import path as the script expects them; what it changes of the process is put back afterwards."""
    before = sys.argv, list(sys.path), sys.modules.get("__main__"), sys.stdout, sys.stderr
    cwd = Path.cwd()
    sys.argv = argv
    sys.path.insert(0, folder)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.argv, sys.path[:], main, sys.stdout, sys.stderr = before
        os.chdir(cwd)
        if main is not None:
            sys.modules["__main__"] = main
