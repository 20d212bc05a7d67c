"""What `whyvae.run`, `.examine` and `.assert_healthy` do. The command line calls the same."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whyvae.examine import Subject, choose, examine
from whyvae.probe import Bench, CannotMeasure, Probe
from whyvae.probes.data import Data
from whyvae.probes.objective import Objective
from whyvae.report import Report
from whyvae.rules.data.data_not_finite import DataNotFinite
from whyvae.rules.data.data_unscaled import DataUnscaled

if TYPE_CHECKING:
    from whyvae.watch.script import RunOutcome
    from whyvae.watch.unbegun import Unbegun
    from whyvae.watch.watcher import Watcher

Codes = Iterable[str] | None


class NotExamined(RuntimeError):
    """No VAE was seen; the message says why."""


@dataclass(frozen=True, slots=True)
class Session:
    """A script that ran, and the report on it if there was a subject; `bench` knows what was measured."""

    outcome: RunOutcome
    report: Report | None
    bench: Bench | None = None


def run_session(
    target: str,
    args: Sequence[str] = (),
    *,
    module: bool = False,
    steps: int | None = None,
    seed: int | None = None,
    select: Codes = None,
    ignore: Codes = None,
) -> Session:
    from whyvae.watch.script import run_script

    return _session(run_script(target, list(args), module=module, steps=steps, seed=seed), select, ignore)


def _session(outcome: RunOutcome, select: Codes = None, ignore: Codes = None) -> Session:
    if outcome.subject is None:
        return Session(outcome, _of_unbegun(outcome.unbegun, select, ignore))
    bench = Bench(outcome.subject)
    return Session(outcome, examine_subject(outcome.subject, select, ignore, bench), bench)


def _of_unbegun(unbegun: Unbegun | None, select: Codes, ignore: Codes) -> Report | None:
    """On the data alone, which nothing was trained on: if they are why."""
    asked = choose({rule.code: rule for rule in (DataNotFinite, DataUnscaled)}, select, ignore)
    if unbegun is None or not asked:
        return None
    known: dict[type[Probe], Probe | CannotMeasure] = {
        Data: Data.of_unbegun(unbegun),
        Objective: CannotMeasure("no loss was seen"),
    }
    report = Report(examine(unbegun, rules=asked, bench=Bench(unbegun, known)))
    return report if report.verdict == "sick" else None


def run(
    script: str,
    args: Sequence[str] = (),
    *,
    module: bool = False,
    steps: int | None = None,
    seed: int | None = None,
    select: Codes = None,
    ignore: Codes = None,
) -> Report:
    """Run a training script (or `-m` module) unmodified, watch it, examine what it trained.

    Raises NotExamined where no VAE was seen.
    """
    session = run_session(script, args, module=module, steps=steps, seed=seed, select=select, ignore=ignore)
    if session.report is None:
        raise NotExamined(session.outcome.reason)
    return session.report


def examine_watched(watcher: Watcher) -> Report:
    """What was seen of the code under `with whyvae.watch()`, and of how it ended.

    Raises NotExamined where no VAE was seen.
    """
    from whyvae.watch.script import RunOutcome, look

    stopped = isinstance(watcher.ended_by, SystemExit)
    outcome = RunOutcome(None, error=None if stopped else watcher.ended_by)
    look(outcome, watcher, "")
    session = _session(outcome)
    if session.report is None:
        raise NotExamined(outcome.reason)
    return session.report


def examine_subject(subject: Subject, select: Codes = None, ignore: Codes = None, bench: Bench | None = None) -> Report:
    from whyvae.watch.neutral import neutral

    with neutral():
        return Report(examine(subject, select, ignore, bench=bench))


def examine_model(model: Any, data: Any, loss: Any = None, *, select: Codes = None, ignore: Codes = None) -> Report:
    """Examine a trained model; `loss` is what it was trained with, where it is at hand."""
    from whyvae.watch.direct import watch_model

    return examine_subject(watch_model(model, data, loss), select, ignore)


def assert_healthy(model: Any, data: Any, loss: Any = None) -> None:
    """For a test suite: fails with the whole report unless the verdict is healthy."""
    report = examine_model(model, data, loss)
    if report.verdict != "healthy":
        raise AssertionError(f"\n{report}")


def unused_folder(out: Path, stem: str) -> Path:
    """`out/<stem>-<time>`, not made yet; two runs within a second get two."""
    base = out / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, count = base, 1
    while folder.exists():
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder


def write_record(report: Report, out: Path, stem: str) -> Path:
    """`record.json` in a run folder of its own."""
    folder = unused_folder(out, stem)
    folder.mkdir(parents=True)
    path = folder / "record.json"
    path.write_text(report.to_json(), encoding="utf-8")
    return path
