"""The main job on data that ships with the dependencies: example scripts, each in its process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from whyvae.report.terminal import lead_finding, verdict_line

# The scripts know nothing of us, so what is expected of them stands here.
EXPECTED = {
    "kl_weight_100.py": "OBJ01",
    "sigmoid_on_pixels_0_255.py": "OUT01",
    "encoder_too_small.py": "CAP01",
    "healthy.py": "healthy",
}
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Outcome:
    """`got`: code of the leading finding, else the verdict; "failed" where there is no record."""

    script: str
    expected: str
    got: str
    says: str

    @property
    def as_expected(self) -> bool:
        return self.got == self.expected


def demo(console: Console | None = None) -> bool:
    """True if every script got the diagnosis it deserves."""
    console = console or Console()
    folder = examples_folder()
    if folder is None:
        console.print("the example scripts are missing from this installation", style="red")
        return False
    outcomes = []
    for count, (name, expected) in enumerate(EXPECTED.items(), start=1):
        console.print(Text.assemble((f"{name}  ", "bold"), _first_sentence(folder / name)))
        with console.status(f"training and examining {name} ({count} of {len(EXPECTED)})"):
            outcomes.append(examine_script(folder / name, expected))
        console.print(Text(f"  {outcomes[-1].says}\n"))
    console.print(_table(outcomes))
    return all(outcome.as_expected for outcome in outcomes)


def examples_folder() -> Path | None:
    """Beside the package when installed, at the top of the repository when run from its source."""
    here = Path(__file__).parent
    candidates = (here / "examples", here.parents[1] / "examples")
    return next((folder for folder in candidates if (folder / "healthy.py").is_file()), None)


def examine_script(script: Path, expected: str) -> Outcome:
    with TemporaryDirectory(prefix="whyvae-demo-") as folder:
        path = Path(folder) / "record.json"
        command = [sys.executable, "-m", "whyvae", "run", "--quiet", "--no-html"]
        command += ["--out", folder, "--json", str(path), str(script)]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter on our own script
                command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Outcome(script.name, expected, "failed", f"no answer within {TIMEOUT_S} s")
        if not path.is_file():
            last = done.stderr.strip().splitlines()[-1:] or ["no record was written"]
            return Outcome(script.name, expected, "failed", last[0])
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    lead = lead_finding(record) if record["verdict"] == "sick" else None
    got = lead["code"] if lead else record["verdict"]
    return Outcome(script.name, expected, got, verdict_line(record))


def _first_sentence(script: Path) -> str:
    if not script.is_file():
        return "is missing"
    doc = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    return (doc or "").partition("\n")[0]


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("script", "expected", "diagnosed", "")
    for outcome in outcomes:
        mark = (
            Text("as expected", "green") if outcome.as_expected else Text("UNEXPECTED", "bold red")
        )
        table.add_row(outcome.script, outcome.expected, outcome.got, mark)
    return table
