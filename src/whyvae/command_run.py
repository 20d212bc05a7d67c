"""`whyvae run`: what stands between its options and its exit status."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import tokenize
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whyvae.api import Session
    from whyvae.report import Report

HEALTHY, FINDINGS, NOT_EXAMINED = 0, 1, 2


def complain(reason: str) -> int:
    """One line on stderr, and the exit status that goes with it."""
    print(f"whyvae: {' '.join(reason.split())}", file=sys.stderr)
    return NOT_EXAMINED


def run_command(options: argparse.Namespace) -> int:
    target, *args = options.target
    if reason := unfit(target, module=options.module):
        return complain(reason)
    # Resolved now: the script may change directory.
    out = Path(options.out).resolve()
    json_path = Path(options.json).resolve() if options.json not in (None, "-") else None
    session = _session(options, target, args)
    if session.report is None:
        return complain(f"could not examine {target}: {session.outcome.reason}")
    folder = _write(session.report, out, json_path, "module" if options.module else "script", target)
    if folder is not None:
        _draw(session, folder)
    _print(session.report, options)
    return status(session)


def _session(options: argparse.Namespace, target: str, args: list[str]) -> Session:
    from whyvae.api import run_session

    with contextlib.ExitStack() as stack:
        if options.json == "-":
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return run_session(
            target,
            args,
            module=options.module,
            steps=options.steps,
            seed=options.seed,
            select=options.select,
            ignore=options.ignore,
        )


def unfit(target: str, *, module: bool) -> str:
    """Why this cannot be run at all, in one line; empty if it can be tried."""
    if module:
        return "" if _importable(target) else f"no module named {target!r}"
    path = Path(target)
    if path.is_dir():
        return f"{target} is a directory; give the training script, or -m MODULE"
    if not path.is_file():
        return f"{target} does not exist"
    return _not_python(path)


def _not_python(path: Path) -> str:
    from whyvae.watch.notebook import SUFFIX, NotANotebook, cells

    try:
        if path.suffix == SUFFIX:
            cells(str(path))
            return ""
        with tokenize.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will show them
            compile(file.read(), str(path), "exec", dont_inherit=True)
    except NotANotebook as error:
        return str(error)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        return f"{path}{line} is not Python: {error.msg}"
    except (UnicodeDecodeError, ValueError):
        return f"{path} is not a Python script"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""


def _importable(module: str) -> bool:
    """Looks for the outermost package only: finding a submodule would import its parents."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.pop(0)


def status(session: Session) -> int:
    """A script that failed gets no clean bill of health: its end was not seen."""
    report, outcome = session.report, session.outcome
    if report is None:
        return NOT_EXAMINED
    if report.verdict == "sick":
        return FINDINGS
    if report.verdict == "inconclusive":
        return complain(f"inconclusive: {report.to_dict()['reason']}")
    if outcome.error is not None:
        name = type(outcome.error).__name__
        return complain(f"nothing found, but the script was stopped by {name}")
    if outcome.exit_code:
        return complain(f"nothing found, but the script exited with status {outcome.exit_code}")
    return HEALTHY


def _draw(session: Session, folder: Path) -> None:
    """The pictures of what was trained, where matplotlib is installed."""
    from whyvae.gallery import of_subject
    from whyvae.plot import hang

    if session.bench is not None and session.outcome.subject is not None:
        hang(of_subject(session.outcome.subject, session.bench), folder)


def _write(report: Report, out: Path, json_path: Path | None, kind: str, target: str) -> Path | None:
    """The run folder. A full disk or a forbidden folder costs the file, not the verdict."""
    from whyvae.api import write_record

    stem = target.rpartition(".")[2] if kind == "module" else Path(target).stem
    folder = None
    try:
        folder = write_record(report, out, stem).parent
        if json_path is not None:
            json_path.write_text(report.to_json(), encoding="utf-8")
    except OSError as error:
        complain(f"the record could not be written: {error}")
    return folder


def _print(report: Report, options: argparse.Namespace) -> None:
    """With --json -, stdout carries the JSON alone and the report goes to stderr."""
    from rich.console import Console

    from whyvae.report.terminal import verdict_line

    if options.json == "-":
        print(report.to_json())
    if options.quiet:
        print(verdict_line(report.to_dict()), file=sys.stderr if options.json == "-" else None)
    else:
        Console(stderr=options.json == "-").print(report)
