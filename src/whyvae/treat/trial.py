"""Control, treatments, placebo: the user's script retrained with one thing changed, and what that did to its samples.

The control is the script as it is. The placebo is the script as it is, started from other seeds: what it differs from the
control by is what a change that changes nothing may do. A treatment is verified when its samples are surely better than
the control's and the placebo's, all trained equally long, and the fault is found no more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from whyvae.treat.arm import Spec
from whyvae.treat.effect import SEED_TO_SEED, effect, paired
from whyvae.treat.engine import Engine, Task
from whyvae.treat.length import WHOLE, Budget, Length, affordable
from whyvae.treat.remedy import Treatment
from whyvae.treat.source import read
from whyvae.treat.tried import BY_HAND, SHOWING, Trial, Tried, best, outcome_of, serious

JSON = dict[str, Any]
ROUNDS = 3
MOST_ARMS = 4  # treatments tried in a round
CUT_SHORT = ("TRN03", "OBJ07")  # training ends too early, a schedule never arrives: so it is in a shortened arm
PLACEBO = 10_007  # added to the seeds
SLACK_S, SLACK = 120.0, 4.0  # an arm may take so many seconds, and so many times as long as the control

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Untreated:
    """The script as it is, trained to one length: from its own seeds (control) and from others (placebo)."""

    control: JSON
    placebo: JSON


class Treating:
    """Runs arms until nothing is left to cure, the rounds are over, or the budget is spent."""

    def __init__(self, base: Spec, folder: Path, engine: Engine, budget: Budget, seeds: int, tell: Told) -> None:
        self.base, self.folder, self.engine, self.tell = base, folder, engine, tell
        self.budget, self.seeds = budget, seeds
        self.trial: Trial | None = None
        self.untreated: dict[Length, Untreated] = {}
        self.control_s = self.spent = 0.0

    def control(self, shown: Literal["stdout", "stderr"] = "stdout") -> Trial:
        """The script as it is, its output shown, examined at its end."""
        begin = time.perf_counter()
        task = Task("control", replace(self.base, folder=str(self.folder / "control"), examine=True), shown=shown)
        result = next(iter(self.engine([task])))[1]
        self.trial = Trial(result, seconds=0.0)
        self.control_s = float(result.get("seconds", time.perf_counter() - begin))
        return self.trial

    def treat(self) -> Trial:
        assert self.trial is not None  # noqa: S101 - control() comes first
        begin = time.perf_counter()
        try:
            self._rounds(self.trial)
        except KeyboardInterrupt:
            self.trial.stopped = "interrupted: what was tried until then stands below"
        self.trial.seconds = time.perf_counter() - begin
        return self.trial

    # ------------------------------------------------------------------ rounds
    def _rounds(self, trial: Trial) -> None:
        result = trial.control
        for number in range(1, ROUNDS + 1):
            if not serious(result.get("record")):
                return
            trial.tried += self._samplers(number, result)
            plans = self._plans(result.get("proposals", []), trial)
            if not plans:
                return
            taken = self._round(number, plans, trial)
            if taken is None:
                return
            trial.taken.append(taken)
            result = taken.result
        if serious(result.get("record")):
            trial.stopped = f"after {ROUNDS} rounds something is left"

    @staticmethod
    def _samplers(number: int, result: JSON) -> list[Tried]:
        """Changes of what latents are drawn from: the trained model stays, and its samples were scored with both."""
        plans = [p for p in result.get("proposals", []) if p["treatment"]["settings"].get("sampler")]
        found = outcome_of(result)
        if not plans or found is None:
            return []
        plan, sampler = plans[0], plans[0]["treatment"]["settings"]["sampler"]
        change = effect(found.fitted, found.prior)
        return [
            Tried(Treatment.of(plan["treatment"]), number, {}, result, change, change, sampler, by_hand=_by_hand(plan))
        ]

    @staticmethod
    def _plans(proposals: list[JSON], trial: Trial) -> list[JSON]:
        """Those that can be tried; what can only be advised is kept as such."""
        plans = [p for p in proposals if p["sources"] or p["injectable"]]
        for path in {path for plan in plans for path in plan["sources"] or ()} - trial.originals.keys():
            trial.originals[path] = read(path) if Path(path).is_file() else ""
        rest = [p for p in proposals if not p["sources"] and not p["injectable"]]
        trial.advice += [p for p in rest if p not in trial.advice and not p["treatment"]["settings"].get("sampler")]
        return plans[:MOST_ARMS]

    def _round(self, number: int, plans: list[JSON], trial: Trial) -> Tried | None:
        """The most promising first; the others where that is not enough."""
        length = self._length(plans, trial)
        if length is None:
            trial.stopped = f"the budget of {self.budget.of(self.control_s):.0f} s is spent; --budget gives more"
            return None
        made: list[Tried] = []
        for some in (plans[:1], plans[1:]):
            if some and not any(t.enough for t in made):
                more = self._side_by_side(number, len(made), some, trial, length)
                made, trial.tried = made + more, trial.tried + more
        taken = best(made, trial.taken[-1] if trial.taken else None)
        if taken is not None and self.seeds > 1:
            again = self._replicated(taken, length)
            trial.tried[trial.tried.index(taken)] = taken = again
        return taken

    def _length(self, plans: list[JSON], trial: Trial) -> Length | None:
        left = (self.budget.of(self.control_s) - self.spent) / max(self.control_s, 1e-9)
        return affordable(left, len(plans), self.untreated, trial.control["steps"], compared=_compared(plans))

    def _side_by_side(self, number: int, first: int, plans: list[JSON], trial: Trial, length: Length) -> list[Tried]:
        """Treatments, and with them the untreated script, where it has not been trained that long yet."""
        tasks = [self._task(f"round{number}-{first + i}", plan, trial, length) for i, plan in enumerate(plans)]
        missing = _compared(plans) and length not in self.untreated
        results = self._run([*tasks, *(self._untreated_tasks(length) if missing else ())])
        if missing:
            control, placebo = _names(length)
            self.untreated[length] = Untreated(results.get(control, trial.control), results[placebo])
        beside = self.untreated.get(length, Untreated(trial.control if length == WHOLE else {}, {}))
        return [
            _judged(number, plan, task, results[task.name], beside, length)
            for plan, task in zip(plans, tasks, strict=True)
        ]

    def _replicated(self, tried: Tried, length: Length) -> Tried:
        """The same from further seeds, in pairs with the control; the interval is then that of the pairs."""
        name, spec = Path(tried.folder).name, Spec.of(_spec(tried.folder))
        beside = self.untreated.get(length)
        if beside is None:
            return tried
        tasks: list[Task] = []
        for k in range(1, self.seeds):
            tasks.append(self._placed(f"{name}-seed{k}", replace(spec, examine=False), k))
            if k > 1:  # the placebo is the first
                tasks.append(self._placed(f"control-seed{k}", self._as_it_is(length), k))
        results = self._run(tasks)
        untreated = [beside.control, beside.placebo, *(results[f"control-seed{k}"] for k in range(2, self.seeds))]
        treated = [tried.result, *(results[f"{name}-seed{k}"] for k in range(1, self.seeds))]
        pairs = [(outcome_of(a), outcome_of(b)) for a, b in zip(treated, untreated, strict=True)]
        known = [(a.likeness, b.likeness) for a, b in pairs if a and b]
        return replace(tried, effect=paired(known), seeds=len(known)) if len(known) > 1 else tried

    # ------------------------------------------------------------------ arms
    def _run(self, tasks: list[Task]) -> dict[str, JSON]:
        results: dict[str, JSON] = {}
        for name, result in self.engine(tasks):
            said = result.get("failed") or f"{result.get('steps', 0)} steps, {result.get('seconds', 0):.0f} s"
            self.tell(f"{name}: {said}")
            results[name] = result
            self.spent += result.get("seconds", 0.0)
        return results

    def _task(self, name: str, plan: JSON, trial: Trial, length: Length) -> Task:
        treatment = Treatment.of(plan["treatment"])
        injected = tuple(t.treatment for t in trial.taken if not t.sources)
        sources = {**trial.sources, **(plan["sources"] or {})}
        if not plan["sources"]:
            injected = (*injected, treatment)
        self.tell(f"{name}: {treatment.remedy}, {treatment.says}")
        ours = [code for code in _ours(length, injected=bool(injected)) if code not in treatment.codes]
        ignored = (*(self.base.ignore or ()), *ours) or None
        spec = replace(
            self._as_it_is(length), treatments=injected, sources=sources, examine=True, ignore=ignored
        )  # fmt: skip
        return self._placed(name, spec, longer=float(treatment.settings.get("times", 1)))

    def _untreated_tasks(self, length: Length) -> list[Task]:
        control, placebo = _names(length)
        spec = self._as_it_is(length)
        alike = [] if length == WHOLE else [self._placed(control, spec)]
        return [*alike, self._placed(placebo, spec, 1)]

    def _as_it_is(self, length: Length) -> Spec:
        return replace(self.base, steps=self.base.steps if length.steps is None else length.steps)

    def _placed(self, name: str, spec: Spec, seed: int = 0, longer: float = 1.0) -> Task:
        """`longer`: times as long as the control it may train."""
        placed = replace(spec, folder=str(self.folder / name), offset=self.base.offset + seed * PLACEBO)
        return Task(name, placed, SLACK_S + SLACK * longer * self.control_s)


def _compared(plans: list[JSON]) -> bool:
    """Is anything compared with the untreated script? Where samples are drawn or shown wrongly, the finding counts alone."""
    return any(plan["treatment"]["codes"][0] not in SHOWING for plan in plans)


def _ours(length: Length, *, injected: bool) -> Iterator[str]:
    """Findings that the trial itself would make."""
    if injected:
        yield "OBJ06"  # what is added is weighed for the batch at hand: its numbers stand on the tape as constants
    if length != WHOLE:
        yield from CUT_SHORT


def _by_hand(plan: JSON) -> JSON:
    return {key: plan[key] for key in BY_HAND}


def _names(length: Length) -> tuple[str, str]:
    """Of control and placebo of that length."""
    behind = "" if length == WHOLE else f"-{length.steps}"
    return f"control{behind}", f"placebo{behind}"


def _judged(number: int, plan: JSON, task: Task, result: JSON, beside: Untreated, length: Length) -> Tried:
    treatment = Treatment.of(plan["treatment"])
    sources = task.spec.sources if plan["sources"] else {}
    tried = Tried(
        treatment, number, sources, result, share=length.share, folder=task.spec.folder,
        by_hand=_by_hand(plan),
    )  # fmt: skip
    tried = replace(tried, cured="record" in result and treatment.codes[0] not in tried.codes_left)
    after, before, placebo = tried.outcome, outcome_of(beside.control), outcome_of(beside.placebo)
    if after is None or before is None:
        return tried
    apart = abs(placebo.likeness - before.likeness) if placebo else 0.0
    between = max(SEED_TO_SEED, apart)
    over = effect(after.prior, placebo.prior, between) if placebo else None
    return replace(tried, effect=effect(after.prior, before.prior, between), over_placebo=over)


def _spec(folder: str) -> JSON:
    found: JSON = json.loads((Path(folder) / "spec.json").read_text(encoding="utf-8"))
    return found
