"""What a fix has come to: the record of the trial, and what stands in the terminal."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from whyvae.treat.effect import Effect
from whyvae.treat.tried import BY_HAND, SHOWING, Trial, Tried, serious

JSON = dict[str, Any]
LIKENESS = "likeness of samples to the data (1: as real examples, 0: as their mean repeated)"
FINDING = "the finding, 1: it stands"
MOST_LINES = 60  # of a patch on the screen


def cured_record(trial: Trial, patch: str | None, folder: str, *, applied: bool) -> JSON:
    """The record of the script as it is, with the trial of each remedy, what is left, where the patch lies, and the
    folder it is to be applied in.
    """
    record: JSON = copy.deepcopy(trial.control["record"])
    before = trial.control.get("outcome", {})
    for tried in reversed(trial.tried):
        for finding in record["findings"]:
            if finding["code"] in tried.treatment.codes:
                finding["remedies"].insert(0, remedy_entry(tried, before))
    record["cure"] = {
        "rounds": [remedy_entry(t, before) | {"left": t.codes_left} for t in trial.taken],
        "tried": [remedy_entry(t, before) | {"round": t.round, "codes": list(t.treatment.codes)} for t in trial.tried],
        "verified": trial.verified,
        "verdict_after": (trial.record_after or {}).get("verdict"), "left": serious(trial.record_after),
        "patch": patch, "diff": Path(patch).read_text(encoding="utf-8") if patch else "", "folder": folder, "applied": applied, "stopped": trial.stopped,
        "advice": [{k: p[k] for k in BY_HAND} | p["treatment"] for p in trial.advice],
    }  # fmt: skip
    record["cost"]["treating_s"] = round(trial.seconds, 3)
    return record


def remedy_entry(tried: Tried, before: JSON) -> JSON:
    t = tried.treatment
    return {"name": t.remedy, "how": t.says, "safety": t.safety, "trial": _trial(tried, before)}


def _trial(tried: Tried, before: JSON) -> JSON:
    entry: JSON = {
        "metric": LIKENESS, "before": _mean(before.get("prior")), "control": _mean(before.get("prior")), "after": None,
        "ci95": None, "seeds": tried.seeds, "verified": tried.verified, "cured": tried.cured, "share": tried.share,
        "failed": tried.failed, "form": "sampler" if tried.sampler else "patch" if tried.sources else "injection",
        **{key: tried.by_hand.get(key, "") for key in BY_HAND},
    }  # fmt: skip
    if tried.treatment.codes[0] in SHOWING and not tried.sampler:
        return entry | {"metric": FINDING, "before": 1, "control": 1, "after": 0 if tried.cured else 1}
    after, change = tried.after, tried.effect
    if tried.outcome is None or change is None or after is None:
        return entry
    control = after - change.value
    return entry | {
        "after": after, "before": control, "control": control,
        "ci95": [control + change.low, control + change.high], "elbo_before": before.get("elbo"), "elbo_after": tried.outcome.elbo,
        "over_placebo": _interval(tried.over_placebo),
    }  # fmt: skip


def _interval(change: Effect | None) -> list[float] | None:
    return None if change is None else [change.low, change.high]


def _mean(values: list[float] | None) -> float | None:
    return sum(values) / len(values) if values else None


# ---------------------------------------------------------------------- terminal
def render(record: JSON, *, quiet: bool = False) -> RenderableType:
    cure = record["cure"]
    if quiet:
        return Text(cure_line(record))
    parts: list[RenderableType] = [_headline(record)]
    tried = [r for r in cure["tried"] if r.get("trial")]
    if tried:
        parts.append(_table(tried))
    if cure["stopped"]:
        parts.append(Text(cure["stopped"], "yellow"))
    if cure["patch"]:
        parts += [_diff(cure["diff"]), Text(f"the patch: {cure['patch']}", "dim"), _how_to_apply(cure)]
    by_hand = [
        {"remedy": r["name"], "says": r["how"]} | r["trial"] for r in cure["rounds"] if r["trial"]["why_no_edit"]
    ]
    if by_hand:
        parts.append(Text("not in a patch, to be done by hand:", "yellow"))
    parts += [_advice(advice) for advice in (by_hand if cure["rounds"] else cure["advice"])]
    parts.append(
        Text(f"training {record['cost']['training_s']:.0f} s, trials {record['cost']['treating_s']:.0f} s", "dim")
    )
    return Group(*parts)


def cure_line(record: JSON) -> str:
    """What came of it, in one line."""
    cure = record["cure"]
    if not serious(record):
        return (
            "NOTHING TO CURE"
            if record["verdict"] == "healthy"
            else "NOTHING CURED: nothing was found that a change could cure"
        )
    if not cure["rounds"]:
        gone = any(t["trial"]["cured"] for t in cure["tried"])
        why = (
            "what removed the first cause made samples worse"
            if gone
            else "no change that was tried removed the first cause"
        )
        return "NOT CURED: " + (cure["stopped"] or why)
    names = ", then ".join(r["name"] for r in cure["rounds"])
    left = f"; left: {', '.join(cure['left'])}" if cure["left"] else ", and nothing is left"
    if not cure["rounds"][-1]["trial"]["cured"]:
        return f"BETTER, NOT CURED: {names}{left}"
    if _spoilt(cure["rounds"][-1]["trial"]):
        left += "; but samples score less than before"
    return f"{'CURED, VERIFIED' if cure['verified'] else 'CURED, NOT VERIFIED'}: {names}{left}"


def _headline(record: JSON) -> Panel:
    line = cure_line(record)
    style = "bold green" if line.startswith(("CURED, V", "NOTHING TO")) else "bold yellow"
    return Panel(Text(line, style), box=box.ROUNDED, border_style=style, title="whyvae fix")


def _table(tried: list[JSON]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name in ("tried", "what it changes"):
        table.add_column(name, ratio=None if name == "tried" else 3)
    for name in ("before", "after", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for remedy in tried:
        trial = remedy["trial"]
        interval = f"{trial['ci95'][0]:.2f} to {trial['ci95'][1]:.2f}" if trial["ci95"] else ""
        table.add_row(
            remedy["name"], remedy["how"], _number(trial["before"]), _number(trial["after"]), interval, _said(trial)
        )
    table.caption = _what_is_compared(tried)
    table.caption_justify = "left"
    return table


def _what_is_compared(tried: list[JSON]) -> str:
    """What the numbers mean; of which remedies, where they do not all mean the same."""
    by_metric: dict[str, list[str]] = {}
    for remedy in tried:
        by_metric.setdefault(remedy["trial"]["metric"], []).append(remedy["name"])
    if len(by_metric) == 1:
        return f"before, after: {next(iter(by_metric))}"
    return "\n".join(
        f"before, after of {', '.join(dict.fromkeys(names))}: {metric}" for metric, names in by_metric.items()
    )


def _said(trial: JSON) -> Text:
    if trial["failed"]:
        return Text(f"failed: {trial['failed']}", "red")
    if trial["verified"]:
        return Text("verified" if trial["share"] == 1 else f"verified, trained {trial['share']:.0%} as long", "green")
    if trial["cured"] and trial["after"] is None:
        return Text("cured; samples have no score", "yellow")  # sentences of different lengths, say
    if trial["cured"] and _spoilt(trial):
        return Text("cured, but samples score less", "yellow")
    return Text("cured, effect not sure" if trial["cured"] else "did not help", "yellow")


def _spoilt(trial: JSON) -> bool:
    return bool(trial["ci95"]) and trial["ci95"][1] < trial["before"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _diff(diff: str) -> RenderableType:
    lines = diff.splitlines()
    shown = lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], "..."]
    return Syntax("\n".join(shown), "diff", background_color="default", word_wrap=True)


def _how_to_apply(cure: JSON) -> Text:
    if cure["applied"]:
        return Text("applied", "green")
    here = Path(cure["folder"]) == Path.cwd()
    command = f"patch -p1 < {cure['patch']}" if here else f"patch -p1 -d {cure['folder']} < {cure['patch']}"
    return Text.assemble("to apply it:\n", (command, "bold"), "\nor run again with --apply")


def _advice(advice: JSON) -> RenderableType:
    where = f" at {advice['where']}" if advice["where"] else ""
    text = Text.assemble((f"{advice['remedy']}", "bold"), f"{where}: {advice['says']} ({advice['why_no_edit']})")
    return Group(text, Syntax(advice["snippet"], "python", background_color="default")) if advice["snippet"] else text
