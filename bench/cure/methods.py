"""Three ways to a cure: `whyvae fix`, a search over the script's knobs, and our own treatments at random."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from bench.cure.arms import Ledger, arm, score
from bench.cure.knobs import ACTIVATIONS, RANGES, Script

from whyvae.treat.arm import Spec
from whyvae.treat.engine import Task
from whyvae.treat.length import Budget
from whyvae.treat.remedy import Treatment
from whyvae.treat.trial import PLACEBO, Treating

JSON = dict[str, Any]
REFERENCES = 5
TRIALS = 60
APART = 1_000_003  # seeds of one run from those of the next


def reference(script: Script, folder: Path) -> list[JSON]:
    text = {str(script.file): script.reference()}
    return [
        arm(Spec(str(script.file), str(folder / f"reference-{k}"), sources=text, offset=k * PLACEBO))
        for k in range(REFERENCES)
    ]


def unturned(script: Script, folder: Path, seed: int) -> JSON:
    """The script with its knobs at its own values: what the control is."""
    text = {str(script.file): script.turned(script.own)}
    return arm(Spec(str(script.file), str(folder / f"own-{seed}"), sources=text, offset=seed * APART))


def fixed(script: Script, folder: Path, seed: int) -> tuple[Ledger, JSON]:
    """The ledger of `fix`, and the result of its control."""
    ledger = Ledger([])

    def engine(tasks: Sequence[Task]) -> Iterator[tuple[str, JSON]]:
        for task in tasks:
            result = arm(task.spec, menu=task.name == "control")
            ledger.add(task.name, result)
            yield task.name, result

    base = Spec(str(script.file), "", offset=seed * APART)
    treating = Treating(base, folder / f"fix-{seed}", engine, Budget(), 1, lambda _: None)
    control = treating.control().control
    if "record" in control:
        trial = treating.treat()
        ledger.end = Path(trial.taken[-1].folder).name if trial.taken else None
    return ledger, control


def searched(script: Script, folder: Path, seed: int, limit: float) -> Ledger:
    """Optuna's TPE, until it reaches the limit."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    ledger = Ledger([])
    for number in range(TRIALS):
        trial = study.ask()
        values = {name: _suggested(trial, name) for name in script.own}
        text = {str(script.file): script.turned(values)}
        result = arm(Spec(str(script.file), str(folder / f"tpe-{seed}/{number}"), sources=text, offset=seed * APART))
        ledger.add(str(number), result)
        study.tell(trial, score(result))
        if score(result) >= limit:
            ledger.end = str(number)
            break
    return ledger


def _suggested(trial: optuna.Trial, name: str) -> Any:
    if name == "activation":
        return trial.suggest_categorical(name, ACTIVATIONS)
    low, high = RANGES[name]
    if isinstance(low, int):
        return trial.suggest_int(name, low, int(high), log=True)
    return trial.suggest_float(name, low, high, log=True)


def drawn(script: Script, folder: Path, seed: int, limit: float, control: JSON) -> Ledger:
    """Treatments at random, until one reaches the limit or none is left."""
    ledger = Ledger([])
    ledger.add("control", control, examined=False)
    menu = list(control["menu"])
    random.Random(seed).shuffle(menu)  # noqa: S311 - no secret
    for number, plan in enumerate(menu):
        injected = () if plan["sources"] else (Treatment.of(plan["treatment"]),)
        place = str(folder / f"random-{seed}/{number}")
        spec = Spec(
            str(script.file), place, treatments=injected, sources=plan["sources"] or {}, offset=seed * APART
        )  # fmt: skip
        result = arm(spec)
        ledger.add(str(number), result)
        if score(result) >= limit:
            ledger.end = str(number)
            break
    return ledger
