"""Wrong remedies on broken scripts: how often is one called verified? (It must never be.)

    python -m bench.placebo [--only REGEX] [--first N] [--jobs 2] [--out FOLDER]

Each broken script of tests/scripts is diagnosed, then treated with three changes that have nothing to do with its fault:
a rate 10 % smaller, a weight decay of 1e-4, gradients clipped at a norm of 10. Faults of training itself are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from whyvae.treat.arm import Spec
from whyvae.treat.engine import local
from whyvae.treat.length import Budget
from whyvae.treat.remedy import all_remedies
from whyvae.treat.trial import Treating
from whyvae.treat.tried import serious

SCRIPTS = Path(__file__).resolve().parents[1] / "tests" / "scripts"
WRONG: tuple[tuple[str, dict[str, float]], ...] = (
    ("learning_rate", {"factor": 0.9}), ("weight_decay", {"decay": 1e-4}), ("clip_gradients", {"norm": 10.0}),
)  # fmt: skip


def plans(code: str) -> list[dict[str, Any]]:
    made = [all_remedies()[name].treatment(code, "a change that is beside the point", **s) for name, s in WRONG]
    keys = {"sources": None, "injectable": True, "why_no_edit": "", "snippet": "", "where": ""}
    return [{"treatment": t.to_dict(), **keys} for t in made]


def treated(script: Path, folder: Path, jobs: int) -> list[tuple[str, bool, str]]:
    """(remedy, verified, what was measured) of each wrong remedy."""
    home = folder / "home"
    home.mkdir(parents=True)
    copy = Path(shutil.copy(script, home))
    treating = Treating(Spec(str(copy), ""), folder, local(jobs), Budget(seconds=900.0), 1, lambda _: None)
    trial = treating.control("stderr")
    codes = serious(trial.control.get("record"))
    if not codes:
        return []
    trial.control["proposals"] = plans(codes[0])
    treating.treat()
    found = []
    for tried in (t for t in trial.tried if t.round == 1 and t.treatment.remedy in dict(WRONG)):
        change = (
            f"{tried.effect.value:+.3f} ({tried.effect.low:+.3f} to {tried.effect.high:+.3f})" if tried.effect else ""
        )
        found.append(
            (tried.treatment.remedy, tried.verified, f"{change} {'fault gone' if tried.cured else ''} {tried.failed}")
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--first", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    manifest = json.loads((SCRIPTS / "manifest.json").read_text())
    ill = [e["path"] for e in manifest if re.fullmatch(r"(?!TRN|GEN)[A-Z]{3}\d\d", e["expect"])]
    chosen = [p for p in ill if re.search(options.only, p)][: options.first]
    cases = 0
    wrongly = []
    for path in chosen:
        with tempfile.TemporaryDirectory() as folder:
            for remedy, verified, said in treated(SCRIPTS / path, Path(folder), options.jobs):
                cases += 1
                wrongly += [f"{path} {remedy}"] if verified else []
                print(f"{'VERIFIED' if verified else 'no':9s} {Path(path).stem:34s} {remedy:16s} {said}", flush=True)
    print(f"wrong remedies called verified: {len(wrongly)} of {cases} {' '.join(wrongly)}")


if __name__ == "__main__":
    main()
