"""The main job on data that ships with the dependencies: example scripts, diagnosed and cured, each in its process."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from whyvae.report.terminal import STYLES, broken, lead_finding, number, verdict_line

JSON = dict[str, Any]
TIMEOUT_S = 600
AT_ONCE = 2
MOST_EVIDENCE = 2


@dataclass(frozen=True, slots=True)
class Case:
    """An example script. It knows nothing of us, so what is wrong with it stands here."""

    script: str
    expected: str  # code of the first cause, or "healthy"
    wrong: str


CASES = (
    Case("sixteen_neurons.py", "CAP02", "16 neurons are too few for this encoder, and for this decoder"),
    Case("kl_weight_100.py", "OBJ01", "the loss weighs the KL 100 times"),
    Case(
        "sigmoid_on_pixels_0_255.py",
        "OUT01",
        "a sigmoid gives 0 to 1, the pixels run from 0 to 255",
    ),
    Case("healthy.py", "healthy", "nothing"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`got`: code of the leading finding, else the verdict; "failed" where there is no record."""

    case: Case
    got: str
    record: JSON | None = None
    failure: str = ""

    @property
    def cured(self) -> bool:
        """Verified against control and placebo, and the patched script found healthy."""
        cure = (self.record or {}).get("cure") or {}
        return bool(cure.get("verified")) and cure.get("verdict_after") == "healthy" and bool(cure.get("patch"))

    @property
    def as_expected(self) -> bool:
        return self.got == self.case.expected and (self.cured or self.case.expected == "healthy")


def demo(console: Console | None = None) -> bool:
    """True if every script got the diagnosis it deserves, and every ill one a patch that is proven to cure it."""
    console = console or Console()
    folder = examples_folder()
    if folder is None:
        console.print("the example scripts are missing from this installation", style="red")
        return False
    begin = time.perf_counter()
    console.print(
        f"whyvae runs {len(CASES)} training scripts that know nothing of it, watches them train, says why they fail\n"
        f"to generate, and retrains them with one thing changed until the change is proven to cure them.\n"
        f"Of wish and fault it is told nothing; it sees the code run. The scripts are in {folder}\n",
        highlight=False,
        soft_wrap=True,
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(examine_script, folder / case.script, case) for case in CASES]
        outcomes = [_announced(console, folder, *pair) for pair in zip(CASES, runs, strict=True)]
    console.print(_table(outcomes))
    right = sum(outcome.as_expected for outcome in outcomes)
    seconds = time.perf_counter() - begin
    console.print(
        f"{right} of {len(CASES)} as expected, {seconds:.0f} s. Now yours: whyvae run train.py, or whyvae fix train.py",
        highlight=False,
    )
    return right == len(CASES)


def examples_folder() -> Path | None:
    """Beside the package when installed, at the top of the repository when run from its source."""
    here = Path(__file__).parent
    candidates = (here / "examples", here.parents[1] / "examples")
    return next((folder for folder in candidates if (folder / "healthy.py").is_file()), None)


def examine_script(script: Path, case: Case) -> Outcome:
    with TemporaryDirectory(prefix="whyvae-demo-") as folder:
        path = Path(folder) / "record.json"
        command = [sys.executable, "-m", "whyvae", "fix", "--quiet", "--no-html", "--jobs", "1"]
        command += ["--out", folder, "--json", str(path), str(script)]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}  # two scripts run side by side
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter on our own script
                command, cwd=folder, env=environment, capture_output=True, text=True,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Outcome(case, "failed", failure=f"no answer within {TIMEOUT_S} s")
        if not path.is_file():
            last = done.stderr.strip().splitlines()[-1:] or ["no record was written"]
            return Outcome(case, "failed", failure=last[0])
        record: JSON = json.loads(path.read_text(encoding="utf-8"))
    lead = lead_finding(record) if record["verdict"] == "sick" else None
    return Outcome(case, lead["code"] if lead else record["verdict"], record)


def _announced(console: Console, folder: Path, case: Case, future: Future[Outcome]) -> Outcome:
    console.print(Rule(Text(case.script, "bold"), align="left"))
    rows = _rows()
    rows.add_row("wish", f'"{_first_sentence(folder / case.script)}"')
    rows.add_row("fault", case.wrong)
    console.print(rows)
    with console.status("training and examining it"):
        outcome = future.result()
    console.print(_told(outcome, folder), Text())
    return outcome


def _first_sentence(script: Path) -> str:
    if not script.is_file():
        return "is missing"
    doc = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    return (doc or "").partition("\n")[0]


def _rows() -> Table:
    rows = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    rows.add_column(style="dim", width=8)
    rows.add_column(ratio=1)
    return rows


def _told(outcome: Outcome, folder: Path) -> RenderableType:
    """What the record says, in the order in which a newcomer asks."""
    rows, record = _rows(), outcome.record
    if record is None:
        rows.add_row("verdict", Text(f"none: {outcome.failure}", "red"))
        return rows
    verdict, style = record["verdict"], STYLES[record["verdict"]]
    lead = lead_finding(record)
    if lead is None or verdict != "sick":
        rows.add_row("verdict", Text(verdict_line(record), style))
        rows.add_row("checked", _checked(record))
        return rows
    title = Text.assemble((verdict.upper(), style), (f"  {lead['code']} {lead['name']}", "bold"))
    rows.add_row("verdict", Group(title, Text(lead["summary"])))
    guilty = [entry for entry in lead["evidence"] if broken(entry)][:MOST_EVIDENCE]
    for label, entry in zip(("measured", ""), guilty, strict=False):
        rows.add_row(label, _measured(entry))
    if lead["where"]:
        rows.add_row("line", _source(lead["where"], folder / outcome.case.script))
    for label, line in _cure(record["cure"]):
        rows.add_row(label, line)
    rows.add_row("more", lead["page"])
    return rows


def _cure(cure: JSON) -> Iterator[tuple[str, Text]]:
    """What was changed, what that did to the samples, and what the patched script was found to be."""
    if not cure["rounds"]:
        yield "cure", Text(f"none: {cure['stopped'] or 'no change that was tried removed it'}", "red")
    for label, done in zip(("cure", "", ""), cure["rounds"], strict=False):
        yield label, Text.assemble((done["name"], "bold"), f": {done['how']}")
        trial = done["trial"]
        if trial["ci95"]:
            low, high = trial["ci95"]
            change = f"{number(trial['before'])} -> {number(trial['after'])} (95 %: {low:.2f} to {high:.2f})"
            yield (
                "",
                Text.assemble(f"{trial['metric']}: {change}", ("  verified" if trial["verified"] else "", "green")),
            )
    if cure["verdict_after"]:
        left = f", left: {', '.join(cure['left'])}" if cure["left"] else ""
        yield "after", Text(f"the patched script is {cure['verdict_after']}{left}", "green" if not left else "yellow")
    for line in cure.get("diff", "").splitlines():
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---")):
            yield "", Text(line, "green" if line[0] == "+" else "red")


def _checked(record: JSON) -> str:
    skipped = len(record["skipped"])
    return f"{len(record['passed'])} diagnoses ruled out, {skipped} skipped"


def _measured(entry: JSON) -> Text:
    """A number, the limit it breaks, and the reason of the limit."""
    unit = f" {entry['unit']}" if entry.get("unit") else ""
    side = {">": "above", "<": "below"}.get(entry["op"], entry["op"])
    limit = f"ill {side} {number(entry['limit'])}{unit}"
    what = entry.get("text") or f"{entry['what']}: {number(entry['measured'])}{unit} ({limit})"
    return Text.assemble(what, (f"\n{entry['because']}", "dim"))


def _source(where: JSON, script: Path) -> Text:
    lines = script.read_text(encoding="utf-8").splitlines()
    place = Text(f"{Path(where['file']).name}:{where['line']}", "bold cyan")
    if Path(where["file"]).name != script.name or not 0 < where["line"] <= len(lines):
        return place
    return Text.assemble(place, "  ", lines[where["line"] - 1].strip())


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("script", "expected", "diagnosed", "cured", "")
    for outcome in outcomes:
        mark = Text("as expected", "green") if outcome.as_expected else Text("UNEXPECTED", "bold red")
        cured = "" if outcome.case.expected == "healthy" else "verified" if outcome.cured else "no"
        table.add_row(outcome.case.script, outcome.case.expected, outcome.got, cured, mark)
    return table
