"""Arms of a comparison: trainings in forked processes, every optimiser step counted, each kept in its folder."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whyvae.rule import all_rules
from whyvae.treat.arm import Spec, planned, run
from whyvae.treat.effect import Outcome
from whyvae.treat.remedy import Treatment, all_remedies

JSON = dict[str, Any]
LIMIT = 240  # seconds for one arm
WORST = -1.0


@dataclass
class Ledger:
    """What one method has done, training by training. `end`: name of the one it settled on."""

    rows: list[Row]
    end: str | None = None

    def add(self, name: str, result: JSON, *, examined: bool = True) -> None:
        """`examined`: the steps that probes take on copies of the model count."""
        steps = result.get("steps", result["all_steps"])
        self.rows.append(Row(name, result["all_steps"] if examined else steps, steps, score(result)))

    def first(self, limit: float, kind: str = "all_steps") -> int | None:
        """Steps until a training reached the limit: all before it, and its own; its examination comes afterwards."""
        spent = 0
        for row in self.rows:
            if row.score >= limit:
                return spent + row.steps
            spent += getattr(row, kind)
        return None

    def proof(self, limit: float, kind: str = "all_steps") -> int | None:
        """Steps until all was done, where what it settled on reached the limit."""
        return self.total(kind) if any(r.name == self.end and r.score >= limit for r in self.rows) else None

    def total(self, kind: str = "all_steps") -> int:
        return sum(getattr(r, kind) for r in self.rows)


@dataclass(frozen=True)
class Row:
    """`all_steps`: those of the examination too; `steps`: of the training."""

    name: str
    all_steps: int
    steps: int
    score: float


def arm(spec: Spec, *, menu: bool = False) -> JSON:
    """The result of one arm in a process forked from this one, kept in its folder; `all_steps`: whoever made them."""
    folder = Path(spec.folder)
    folder.mkdir(parents=True, exist_ok=True)
    said, done = json.dumps(spec.to_dict(), sort_keys=True), folder / "result.json"
    if done.is_file() and (folder / "spec.json").read_text() == said:
        kept: JSON = json.loads(done.read_text())
        return kept
    (folder / "spec.json").write_text(said)
    process = multiprocessing.get_context("fork").Process(target=_forked, args=(spec, folder, menu))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    if not done.is_file():
        counted = folder / "steps"
        steps = int(counted.read_text() or 0) if counted.is_file() else 0
        done.write_text(json.dumps({"failed": f"no end within {LIMIT} s, or killed", "all_steps": steps}))
    found: JSON = json.loads(done.read_text())
    return found


def warm() -> None:
    """Loads once what every arm would load for itself; torch.optim brings torch._dynamo in with its first step."""
    for name in (
        "torch._dynamo",
        "sklearn.datasets",
        "sklearn.mixture",
        "whyvae.examine",
        "whyvae.treat.case",
        "whyvae.treat.injector",
    ):
        importlib.import_module(name)
    all_rules(), all_remedies()


def _forked(spec: Spec, folder: Path, menu: bool) -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    sys.stdout = sys.stderr = (folder / "output.txt").open("w")
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1
        if counted % 100 == 0:
            (folder / "steps").write_text(str(counted))

    register_optimizer_step_post_hook(count)
    begin = time.process_time()
    offered: list[JSON] = []
    with _menu(offered) if menu else contextlib.nullcontext():
        result = run(spec, folder)
    result |= {"all_steps": counted, "cpu_s": time.process_time() - begin, "menu": offered}
    (folder / "part").write_text(json.dumps(result))
    (folder / "part").replace(folder / "result.json")


@contextlib.contextmanager
def _menu(menu: list[JSON]) -> Iterator[None]:
    """Inside, an examined arm also writes down which treatments of all remedies can be applied to its script."""
    from whyvae.treat import remedy

    original = remedy.proposals

    def both(case: Any) -> list[Treatment]:
        plans = [planned(case, treatment) for treatment in everything(case)]
        menu.extend(p for p in plans if p["sources"] or p["injectable"])
        return original(case)

    remedy.proposals = both
    try:
        yield
    finally:
        remedy.proposals = original


def everything(case: Any) -> list[Treatment]:
    """What each remedy would do against each fault it knows, were it there."""
    found: dict[str, Treatment] = {}
    for remedy in all_remedies().values():
        for code in remedy.treats:
            with contextlib.suppress(Exception):  # it looks at a finding that is not there
                for treatment in remedy.proposals(case, code):
                    if not treatment.settings.get("sampler"):
                        found.setdefault(json.dumps([remedy.name, treatment.settings], sort_keys=True), treatment)
    return list(found.values())


def score(result: JSON) -> float:
    outcome = Outcome.of(result["outcome"]) if "outcome" in result else None
    return outcome.likeness if outcome is not None and outcome.prior and not result.get("error") else WORST
