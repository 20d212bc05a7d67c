"""Control, treatments, placebo: the user's script retrained with one thing changed, and what that did to its samples.

The control is the script as it is. The placebo is the script as it is, started from other seeds: what it differs from the
control by is what a change that changes nothing may do. A treatment is verified when its samples are surely better than
the control's and the placebo's, and the fault is found no more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from whyvae.treat.arm import Spec
from whyvae.treat.effect import Effect, Outcome, effect, mean, paired
from whyvae.treat.engine import Engine, Task
from whyvae.treat.remedy import Treatment
from whyvae.treat.source import read

JSON = dict[str, Any]
ROUNDS = 3
MOST_ARMS = 4  # treatments tried in a round
PLACEBO = 10_007  # added to the seeds
SLACK_S, SLACK = 120.0, 4.0  # an arm may take so many seconds, and so many times as long as the control
FLOOR_S = 240.0  # a training this short need not be saved on: the default budget is no smaller
SHARE = 1.5  # of one training run, by default
# Standard deviation, from seed to seed, of the difference of two trainings' likenesses: that of one control and its placebo
# may be small by chance. Of 20 scripts (bench/cures.py) half differed by less than 0.015, which is 0.67 of it.
SEED_TO_SEED = 0.02
SHORTEST = 0.1  # of the control's steps: less tells nothing
SHOWING = ("GEN02", "GEN03", "GEN04")  # how samples are drawn and shown: the model itself is not at fault


@dataclass(frozen=True, slots=True)
class Tried:
    """One treatment, and what came of it. `sources`: path -> text of the files it edits, {} where it was injected."""

    treatment: Treatment
    round: int
    sources: dict[str, str]
    result: JSON
    effect: Effect | None = None
    over_placebo: Effect | None = None
    sampler: str = ""  # what latents were drawn from in place of N(0, I), nothing retrained
    cured: bool = False  # the cause is found no more
    share: float = 1.0  # of the control's steps
    seeds: int = 1
    folder: str = ""
    snippet: str = ""
    where: str = ""

    @property
    def failed(self) -> str:
        return str(self.result.get("failed", "") or self.result.get("error", ""))

    @property
    def verified(self) -> bool:
        if self.sampler:
            return self.effect is not None and self.effect.sure
        if self.failed or not self.cured:
            return False
        if self.treatment.codes[0] in SHOWING:
            return True
        return bool(self.effect and self.over_placebo and self.effect.sure and self.over_placebo.sure)

    @property
    def codes_left(self) -> list[str]:
        return serious(self.result.get("record"))

    @property
    def outcome(self) -> Outcome | None:
        return _outcome(self.result)

    @property
    def after(self) -> float | None:
        """Likeness of the samples after the change; None where there are none."""
        found = self.outcome
        return None if found is None or not found.prior else mean(found.fitted if self.sampler else found.prior)


@dataclass(slots=True)
class Trial:
    """What a fix has come to. `stopped`: why it ended before it was done, "" if it was."""

    control: JSON
    placebo: JSON = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    taken: list[Tried] = field(default_factory=list)  # the best of each round, one on top of the other
    advice: list[JSON] = field(default_factory=list)  # what could not be tried: a snippet, and where it goes
    originals: dict[str, str] = field(default_factory=dict)  # path -> text of the files that patches are made of
    seconds: float = 0.0
    stopped: str = ""

    @property
    def sources(self) -> dict[str, str]:
        return {path: text for tried in self.taken for path, text in tried.sources.items()}

    @property
    def record_after(self) -> JSON | None:
        return self.taken[-1].result.get("record") if self.taken else self.control.get("record")

    @property
    def healthy_after(self) -> bool:
        record = self.record_after
        return record is not None and record["verdict"] == "healthy"


Told = Callable[[str], None]


def serious(record: JSON | None) -> list[str]:
    """Codes of the findings that stand, first cause first."""
    return [f["code"] for f in (record or {}).get("findings", []) if f["severity"] != "info"]


class Treating:
    """Runs arms until nothing is left to cure, the rounds are over, or the budget is spent."""

    def __init__(self, base: Spec, folder: Path, engine: Engine, budget: Budget, seeds: int, tell: Told) -> None:
        self.base, self.folder, self.engine, self.tell = base, folder, engine, tell
        self.budget, self.seeds = budget, seeds
        self.trial: Trial | None = None
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
            best = self._round(number, plans, trial)
            if best is None:
                return
            trial.taken.append(best)
            result = best.result
        if serious(result.get("record")):
            trial.stopped = f"after {ROUNDS} rounds something is left"

    @staticmethod
    def _samplers(number: int, result: JSON) -> list[Tried]:
        """Changes of what latents are drawn from: the trained model stays, and its samples were scored with both."""
        plans = [p for p in result.get("proposals", []) if p["treatment"]["settings"].get("sampler")]
        found = _outcome(result)
        if not plans or found is None or not found.prior:
            return []
        plan, sampler = plans[0], plans[0]["treatment"]["settings"]["sampler"]
        change = effect(found.fitted, found.prior)
        return [
            Tried(Treatment.of(plan["treatment"]), number, {}, result, change, change, sampler, snippet=plan["snippet"])
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
        share = self._share(len(plans), trial)
        if share < SHORTEST:
            trial.stopped = f"the budget of {self.budget.of(self.control_s):.0f} s is spent; --budget gives more"
            return None
        steps = None if share == 1 else max(1, int(share * trial.control["steps"]))
        tasks = {f"round{number}-{i}": self._task(number, i, plan, trial, steps) for i, plan in enumerate(plans)}
        waiting = list(tasks.values())
        if not trial.placebo:
            waiting.append(self._placebo(steps))
        if steps is not None:
            waiting.append(self._short_control(steps))
        results = dict(self._reported(waiting))
        self.spent += sum(r.get("seconds", 0.0) for r in results.values())
        trial.placebo = trial.placebo or results.get("placebo", {})
        control = results.get("control-short", trial.control)
        made = [
            self._tried(number, plan, results[name], control, trial, share, tasks[name])
            for name, plan in zip(tasks, plans, strict=True)
        ]
        best = _best(made)
        if best is not None and self.seeds > 1:
            again = self._replicated(best, trial, steps)
            made[made.index(best)] = best = again
        trial.tried += made
        return best

    def _replicated(self, tried: Tried, trial: Trial, steps: int | None) -> Tried:
        """The same from further seeds, in pairs with the control; the interval is then that of the pairs."""
        name, base = Path(tried.folder).name, Spec.of(_spec(tried.folder))
        tasks: list[Task] = []
        for k in range(1, self.seeds):
            control = replace(self.base, folder="", steps=steps or self.base.steps)
            for kind, spec in ((f"control-seed{k}", control), (f"{name}-seed{k}", replace(base, examine=False))):
                placed = replace(spec, folder=str(self.folder / kind), offset=k * PLACEBO)
                tasks.append(Task(kind, placed, SLACK_S + SLACK * self.control_s))
        results = dict(self._reported(tasks))
        self.spent += sum(r.get("seconds", 0.0) for r in results.values())
        pairs = [(tried.outcome, _outcome(trial.control if steps is None else results.get("control-short", {})))]
        pairs += [
            (_outcome(results[f"{name}-seed{k}"]), _outcome(results[f"control-seed{k}"])) for k in range(1, self.seeds)
        ]
        known = [(a.likeness, b.likeness) for a, b in pairs if a and b and a.prior and b.prior]
        return replace(tried, effect=paired(known), seeds=len(known)) if len(known) > 1 else tried

    def _share(self, plans: int, trial: Trial) -> float:
        """Of the control's steps that each arm can have; 1 where all can run to their end."""
        left = self.budget.of(self.control_s) - self.spent
        arms = plans + (0 if trial.placebo else 1)
        if left >= arms * self.control_s:
            return 1.0
        return left / ((arms + 1) * max(self.control_s, 1e-9))

    def _reported(self, tasks: list[Task]) -> Iterator[tuple[str, JSON]]:
        for name, result in self.engine(tasks):
            said = result.get("failed") or f"{result.get('steps', 0)} steps, {result.get('seconds', 0):.0f} s"
            self.tell(f"{name}: {said}")
            yield name, result

    # ------------------------------------------------------------------ arms
    def _task(self, number: int, i: int, plan: JSON, trial: Trial, steps: int | None) -> Task:
        treatment = Treatment.of(plan["treatment"])
        injected = tuple(t.treatment for t in trial.taken if not t.sources)
        sources = {**trial.sources, **(plan["sources"] or {})}
        if not plan["sources"]:
            injected = (*injected, treatment)
        name = f"round{number}-{i}"
        self.tell(f"{name}: {treatment.remedy}, {treatment.says}")
        spec = replace(
            self.base, folder=str(self.folder / name), treatments=injected, sources=sources, examine=True,
            steps=self.base.steps if steps is None else steps,
            # what an injection adds is weighed for the batch at hand: its numbers stand on the tape as constants
            ignore=(*(self.base.ignore or ()), "OBJ06") if injected and "OBJ06" not in treatment.codes else self.base.ignore,
        )  # fmt: skip
        return Task(name, spec, SLACK_S + SLACK * self.control_s)

    def _placebo(self, steps: int | None) -> Task:
        spec = replace(self.base, folder=str(self.folder / "placebo"), offset=PLACEBO, steps=steps or self.base.steps)
        return Task("placebo", spec, SLACK_S + SLACK * self.control_s)

    def _short_control(self, steps: int) -> Task:
        spec = replace(self.base, folder=str(self.folder / "control-short"), steps=steps)
        return Task("control-short", spec, SLACK_S + SLACK * self.control_s)

    def _tried(
        self, number: int, plan: JSON, result: JSON, control: JSON, trial: Trial, share: float, task: Task
    ) -> Tried:
        treatment = Treatment.of(plan["treatment"])
        more = {key: plan[key] for key in ("snippet", "where")}
        sources = task.spec.sources if plan["sources"] else {}
        tried = Tried(treatment, number, sources, result, share=share, folder=task.spec.folder, **more)
        after, before = tried.outcome, _outcome(control)
        if after is None or before is None or not after.prior or not before.prior:
            return replace(tried, cured=self._cured(tried))
        placebo = _outcome(trial.placebo)
        apart = abs(placebo.likeness - before.likeness) if placebo and placebo.prior else 0.0
        between = max(SEED_TO_SEED, apart)
        over = effect(after.prior, placebo.prior, between) if placebo and placebo.prior else None
        return replace(
            tried, cured=self._cured(tried), effect=effect(after.prior, before.prior, between), over_placebo=over
        )

    @staticmethod
    def _cured(tried: Tried) -> bool:
        return "record" in tried.result and tried.treatment.codes[0] not in tried.codes_left


def _spec(folder: str) -> JSON:
    found: JSON = json.loads((Path(folder) / "spec.json").read_text(encoding="utf-8"))
    return found


def _outcome(result: JSON) -> Outcome | None:
    return Outcome.of(result["outcome"]) if "outcome" in result else None


def _best(tried: list[Tried]) -> Tried | None:
    """The one to go on with: verified before cured; of those what leaves least, then what generates best."""

    def key(t: Tried) -> tuple[bool, bool, int, float]:
        healthy = t.result["record"]["verdict"] == "healthy"
        return t.verified, healthy, -len(t.codes_left), t.effect.value if t.effect else 0.0

    fit = [t for t in tried if not t.failed and t.cured and not (t.effect and t.effect.high < 0)]
    return max(fit, key=key) if fit else None


@dataclass(frozen=True, slots=True)
class Budget:
    """For all arms together: a share of one training, or seconds."""

    share: float = SHARE
    seconds: float | None = None
    floor: float = FLOOR_S

    def of(self, training: float) -> float:
        return self.seconds if self.seconds is not None else max(self.share * training, self.floor)
