"""Training steps until a broken script generates as its repaired twin does: `whyvae fix`, Optuna's TPE, random repair.

    python -m bench.time_to_cure FOLDER [--seeds 2] [--only REGEX] [--minutes 40]   # goes on where it was broken off
    python -m bench.time_to_cure FOLDER --page "made with ..." > docs/time_to_cure.md   # of what has been run

*Scripts*: the three classics of examples/ and scripts of tests/scripts that train in seconds and whose cure lies within the
knobs; a fault of wiring is out of a search's reach, and none is here. Rules and remedies were developed with these scripts at
hand: what `fix` needs on scripts nobody has seen is not said here. The reference of sigmoid_on_pixels_0_255 is a repair by
hand that generates poorly; it stands as it was set. Each knob is a named place in the script's own text,
laid open by hand, so that no search loses steps to an edit that fails.

*The score* is the likeness of samples to the data, which the trials of `fix` use (treat/effect.py). *Reached* is a score at
or above the lower end of the one-sided 95 % prediction interval of the repaired script, from five trainings of it from as
many seeds: mean - t(0.95, 4) * sd * sqrt(1 + 1/5). A further training of the repaired script itself reaches it 19 times in
20. The standard deviation is taken as no smaller than what seeds are known to do (effect.SEED_TO_SEED / sqrt 2).
*Steps* are optimiser steps: of every training, failed ones too, and for `fix` those its examinations take on copies of the
model as well (`Optimizer.step` is counted, whoever calls it). The arm that
reaches the score counts with its training, and with its examination in the proof. A script whose broken form reaches the score is left out.

*fix*: the control, examined; then as `whyvae fix` with its default budget. *TPE*: Optuna's sampler with its defaults on the
knobs of bench/cure/knobs.py, at most 60 trainings; no step is counted for the broken script. *Random repair*: the watched
run, then our own treatments, each applied as `fix` would, drawn without replacement from all remedies whatever they treat;
no step is counted for examining. Neither search is charged for a proof. Nothing is pruned: the score is one of a model
trained to its end. Seeds of training, of TPE and of the draw differ from run to run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from bench.cure.arms import score, warm
from bench.cure.knobs import SCRIPTS, Script
from bench.cure.methods import drawn, fixed, reference, searched, unturned
from bench.cure.page import page
from scipy.stats import t as student

from whyvae.treat.effect import SEED_TO_SEED

JSON = dict[str, Any]


def lowest(scores: list[float]) -> float:
    """What a further training of the repaired script reaches 19 times in 20."""
    n, mean = len(scores), sum(scores) / len(scores)
    sd = (sum((s - mean) ** 2 for s in scores) / (n - 1)) ** 0.5
    return mean - float(student.ppf(0.95, n - 1)) * max(sd, SEED_TO_SEED / 2**0.5) * (1 + 1 / n) ** 0.5


def raced(script: Script, folder: Path, seed: int) -> JSON:
    """One script, one seed, three methods."""
    begin = time.perf_counter()
    references = reference(script, folder)
    scores = [score(r) for r in references]
    limit = lowest(scores)
    fix, control = fixed(script, folder, seed)
    found: JSON = {
        "script": script.name, "seed": seed, "reference": scores, "limit": limit, "training": references[0]["steps"],
        "broken": score(control), "unturned": score(unturned(script, folder, seed)), "menu": len(control.get("menu", ())),
        "found": [f["code"] for f in control.get("record", {}).get("findings", [])][:1], "fix": asdict(fix),
    }  # fmt: skip
    if found["broken"] < limit:
        found["random"] = asdict(drawn(script, folder, seed, limit, control))
        found["tpe"] = asdict(searched(script, folder, seed, limit))
    return found | {"seconds": time.perf_counter() - begin, "load": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--page", metavar="MADE", help="run nothing; print the page, which says what it was made with")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.page is None:
        _run([s for s in SCRIPTS if re.search(options.only, s.name)], folder, options.seeds, 60 * options.minutes)
    results = [json.loads(p.read_text()) for p in sorted(folder.glob("*/seed-*.json"))]
    print(page(results, __doc__ or "", options.page or ""))


def _run(scripts: list[Script], folder: Path, seeds: int, seconds: float) -> None:
    """Every script once, then every script again: what is broken off has them all."""
    torch.set_num_threads(1)
    warm()
    begin = time.perf_counter()
    for seed, script in [(seed, script) for seed in range(seeds) for script in scripts]:
        kept = folder / script.name / f"seed-{seed}.json"
        if kept.is_file():
            continue
        if time.perf_counter() - begin > seconds:
            return
        result = raced(script, folder / script.name, seed)
        kept.write_text(json.dumps(result, indent=1))
        print(f"{script.name} seed {seed}: {result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
