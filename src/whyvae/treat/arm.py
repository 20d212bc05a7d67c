"""One arm of a trial: a run of the user's script in a process of its own, changed or not, that leaves its result in a file.

    python -m whyvae.treat.arm SPEC.json

Nothing of the user's is written to; a crash, an endless script or a kill costs this arm alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, Self

from whyvae.treat.remedy import NoEdit, Treatment

JSON = dict[str, Any]
RATIO = 1.15  # steps recorded: by their number, so that no clock decides what an arm is measured on
SHOWN = 64  # samples and examples kept for pictures


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run. `sources`: path -> the text to run in place of what the file holds; `offset` is added to every seed
    the script sets, `treatments` are injected. `examine`: judge what it trained, and propose what to try next.
    """

    script: str
    folder: str  # of this arm
    args: tuple[str, ...] = ()
    module: bool = False
    treatments: tuple[Treatment, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    steps: int | None = None
    seed: int | None = None
    offset: int = 0
    examine: bool = False
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None

    def to_dict(self) -> JSON:
        return asdict(self)

    @classmethod
    def of(cls, entry: JSON) -> Self:
        tuples = {key: tuple(entry[key]) for key in ("args", "select", "ignore") if entry[key] is not None}
        treatments = tuple(Treatment.of(t) for t in entry["treatments"])
        return cls(**{**entry, **tuples, "treatments": treatments})


def main(path: str) -> None:
    spec = Spec.of(json.loads(Path(path).read_text(encoding="utf-8")))
    folder = Path(spec.folder).resolve()
    result = run(spec, folder)
    waiting = folder / "result.json.part"
    waiting.write_text(json.dumps(result), encoding="utf-8")
    waiting.replace(folder / "result.json")


def run(spec: Spec, folder: Path) -> JSON:
    from whyvae.treat.injector import Injector
    from whyvae.treat.remedy import all_remedies
    from whyvae.treat.scratch import scratch
    from whyvae.watch.script import run_script

    injector = Injector()
    for treatment in spec.treatments:
        if not all_remedies()[treatment.remedy].inject(treatment.settings, injector):
            return {"failed": f"{treatment.remedy} has no form at run time"}
    begin = time.perf_counter()
    with scratch(folder / "files"), _sources(spec.sources), _shifted_seeds(spec.offset):
        outcome = run_script(
            spec.script, list(spec.args), module=spec.module, steps=spec.steps,
            seed=spec.offset if spec.seed is None else spec.seed + spec.offset, inside=injector,
            text=spec.sources.get(str(Path(spec.script).resolve())), ratio=RATIO,
        )  # fmt: skip
    result: JSON = {"failed": "", "seconds": time.perf_counter() - begin, "interrupted": outcome.interrupted}
    result["error"] = f"{type(outcome.error).__name__}: {outcome.error}" if outcome.error is not None else ""
    if outcome.subject is None:
        return {**result, "failed": outcome.reason}
    if injector.missed > injector.backwards / 2:
        return {**result, "failed": "the points of the treatment were not met again in the training"}
    result["steps"] = outcome.subject.count
    return {**result, **_judged(spec, outcome.subject, folder)}


def _judged(spec: Spec, subject: Any, folder: Path) -> JSON:
    from whyvae.probe import Bench
    from whyvae.treat.effect import measured
    from whyvae.watch.neutral import neutral

    with neutral():
        bench = Bench(subject)
        outcome, rows = measured(subject, bench)
        if rows is not None:
            _keep(folder, rows)
        result: JSON = {"outcome": outcome.to_dict()}
        return {**result, **_examined(spec, subject, bench)} if spec.examine else result


def _examined(spec: Spec, subject: Any, bench: Any) -> JSON:
    from whyvae.examine import examine
    from whyvae.treat.case import Case
    from whyvae.treat.remedy import proposals

    examination = examine(subject, spec.select, spec.ignore, bench=bench)
    case = Case(Path(spec.script), list(spec.args), subject, bench, examination, dict(spec.sources)).about_first_cause()
    found = [planned(case, treatment) for treatment in proposals(case)]
    return {"record": examination.to_dict(), "proposals": found}


def planned(case: Any, treatment: Treatment) -> JSON:
    """A treatment with its source form, where it has one."""
    from whyvae.treat.injector import Injector
    from whyvae.treat.remedy import all_remedies

    remedy = all_remedies()[treatment.remedy]
    plan: JSON = {"treatment": treatment.to_dict(), "sources": None, "why_no_edit": "", "snippet": "", "where": ""}
    try:
        plan["sources"] = remedy.edit(case, treatment.settings)
    except NoEdit as no:
        plan.update(why_no_edit=str(no), snippet=no.snippet, where=no.where)
    except Exception as error:
        if os.environ.get("WHYVAE_DEBUG") == "1":
            raise
        plan["why_no_edit"] = f"internal error {error!r}"
    plan["injectable"] = remedy.inject(treatment.settings, Injector())
    return plan


def _keep(folder: Path, rows: Any) -> None:
    import numpy as np

    kept = {name: getattr(rows, name)[:SHOWN].float().numpy() for name in ("real", "prior", "fitted")}
    np.savez_compressed(folder / "samples.npz", **kept)


@contextlib.contextmanager
def _sources(texts: dict[str, str]) -> Iterator[None]:
    """Modules of the user's are loaded from `texts` where they stand there; their compiled forms are not looked at."""
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> Any:
        path = str(Path(self.get_filename(fullname)).resolve())
        return original(self, fullname) if path not in texts else compile(texts[path], path, "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        SourceFileLoader.get_code = original  # type: ignore[method-assign]


@contextlib.contextmanager
def _shifted_seeds(offset: int) -> Iterator[None]:
    """Inside, a script that seeds its random streams gets seeds that lie `offset` further."""
    import numpy as np
    import torch

    undo = []
    for owner, name in ((torch, "manual_seed"), (torch.random, "manual_seed"), (random, "seed"), (np.random, "seed")):
        undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, _shifted(getattr(owner, name), offset))
    try:
        yield
    finally:
        for owner, name, value in undo:
            setattr(owner, name, value)


def _shifted(seed: Any, offset: int) -> Any:
    def shifted(value: Any = None, *args: Any, **kwargs: Any) -> Any:
        return seed(value + offset if isinstance(value, int) else value, *args, **kwargs)

    return shifted if offset else seed


if __name__ == "__main__":
    main(sys.argv[1])
