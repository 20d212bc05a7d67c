"""A record on one terminal screen. Reads the dict of record.py; imports no torch."""

from __future__ import annotations

import io
import linecache
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

JSON = dict[str, Any]

WIDTH = 100
MAX_EVIDENCE, MAX_REMEDIES, MAX_OTHERS, MAX_HOW = 3, 3, 5, 4  # so that it all fits one screen
STYLES = {"sick": "bold red", "healthy": "bold green", "inconclusive": "bold yellow"}
SEVERITIES = {"error": "red", "warning": "yellow", "info": "cyan"}


def render(record: JSON) -> RenderableType:
    lead = lead_finding(record)
    parts: list[RenderableType] = [_headline(record, lead), _subject(record["subject"])]
    if lead:
        parts += [Text(), _lead(lead)]
    if others := [f for f in record["findings"] if f is not lead]:
        parts += [Text(), _others(others)]
    if doubts := _doubts(record):
        parts += [Text(), doubts]
    return Group(*parts, Text(), _footer(record))


def to_text(record: JSON) -> str:
    """Plain text of a fixed width, for logs and for `print`."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render(record))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def to_html(record: JSON) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, record=True)
    console.print(render(record))
    pre = "<pre style='font-family:ui-monospace,monospace;line-height:1.25'>{code}</pre>"
    return console.export_html(inline_styles=True, code_format=pre)


def verdict_line(record: JSON) -> str:
    """The verdict in one line: what --quiet prints."""
    lead = lead_finding(record)
    if record["verdict"] == "sick" and lead:
        where = f" at {_place(lead['where'])}" if lead["where"] else ""
        return f"SICK: {lead['code']} {lead['name']}{where}: {lead['summary']}"
    if record["verdict"] == "healthy":
        return "HEALTHY: nothing found that keeps this VAE from generating"
    return f"INCONCLUSIVE: {record.get('reason') or 'the deciding checks did not run'}"


def lead_finding(record: JSON) -> JSON | None:
    """What to repair first; remarks lead only where there is nothing else."""
    findings: list[JSON] = record["findings"]
    serious = [finding for finding in findings if finding["severity"] != "info"]
    return next(iter(serious or findings), None)


def _headline(record: JSON, lead: JSON | None) -> Panel:
    verdict = record["verdict"]
    words = {
        "sick": f"repair {lead['code']} {lead['name']} first" if lead else "",
        "healthy": "nothing found that keeps this VAE from generating",
        "inconclusive": "nothing found, but not everything could be judged",
    }[verdict]
    line = Text.assemble((verdict.upper(), STYLES[verdict]), "  ", words)
    return Panel(line, box=box.ROUNDED, border_style=STYLES[verdict], title="whyvae")


def _subject(subject: JSON) -> Text:
    first = [subject.get(key) for key in ("script", "model", "posterior", "likelihood")]
    second = [_variance(subject), _data(subject.get("data") or {})]
    lines = (" · ".join(str(part) for part in parts if part) for parts in (first, second))
    return Text("\n".join(line for line in lines if line), style="dim")


def _variance(subject: JSON) -> str:
    """s is a variance for squared errors; where the likelihood sets its own variance it is the weight of the KL."""
    value, likelihood = subject.get("noise_variance"), str(subject.get("likelihood", ""))
    if value is None:
        return ""
    own = likelihood.startswith(("Bernoulli", "continuous Bernoulli", "Poisson"))
    what = "weight of the KL per nat of likelihood: beta" if own else "noise variance the loss implies: s"
    return f"{what} = {number(value)}"


def _data(data: JSON) -> str:
    shape = " x ".join(str(size) for size in data.get("shape") or [])
    low_high = data.get("range") or []
    values = f" in [{', '.join(number(value) for value in low_high)}]" if low_high else ""
    return f"data {shape}{values}" if shape or values else ""


def _lead(finding: JSON) -> RenderableType:
    parts: list[RenderableType] = [_title(finding), Text(finding["summary"])]
    parts.append(_evidence(finding["evidence"]))
    if finding["where"]:
        parts.append(_source(finding["where"]))
    if finding["remedies"]:
        parts += [Text("What to do", style="bold"), *_remedies(finding["remedies"])]
    parts.append(Text.assemble(("Why, and when this is wrong: ", "dim"), finding["page"]))
    return Group(*parts)


def _title(finding: JSON) -> Text:
    severity = finding["severity"]
    facts = [f"confidence {finding['confidence']:.0%}"]
    if finding["nats"] is not None:
        facts.append(f"costs {number(finding['nats'])} nats per example")
    return Text.assemble(
        (f"{finding['code']} {finding['name']}", "bold"),
        "  ",
        (severity, SEVERITIES[severity]),
        (f"  {', '.join(facts)}", "dim"),
    )


def _evidence(evidence: list[JSON]) -> Table:
    """What incriminates stands first: the rest may be cut off."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("what", ratio=3)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("ill if", justify="right", no_wrap=True)
    table.add_column("because", ratio=5)
    for entry in sorted(evidence, key=broken, reverse=True)[:MAX_EVIDENCE]:
        ill = "bold" if broken(entry) else ""
        unit = f" {entry['unit']}" if entry.get("unit") else ""
        if entry.get("text"):  # a yes or no: the words say it, the numbers would not
            table.add_row(Text(entry["text"], ill), Text(), Text(), Text(entry["because"]))
            continue
        measured = Text(f"{number(entry['measured'])}{unit}", ill)
        limit = Text(f"{entry['op']} {number(entry['limit'])}{unit}")
        table.add_row(Text(entry["what"], ill), measured, limit, Text(entry["because"]))
    return table


def broken(entry: JSON) -> bool:
    measured, limit = float(entry["measured"]), float(entry["limit"])
    healthy = measured >= limit if entry["op"] == "<" else measured <= limit
    return not healthy  # NaN is not healthy


def _source(where: JSON) -> Text:
    text = linecache.getline(where["file"], where["line"]).strip()
    return Text.assemble((_place(where), "bold cyan"), f"    {text}", no_wrap=True, overflow="ellipsis")


def _remedies(remedies: list[JSON]) -> Iterator[RenderableType]:
    """The first is the one to try: only it may take several lines."""
    for count, remedy in enumerate(remedies[:MAX_REMEDIES], start=1):
        lines = remedy["how"].strip().splitlines() or [""]
        room = MAX_HOW if count == 1 else 1
        shown = lines if len(lines) <= room else [*lines[: max(1, room - 1)], "..."][:room]
        how = Text("\n".join(shown))
        head = Text.assemble(f"{count}. ", (remedy["name"], "bold"), _proof(remedy.get("trial")))
        if len(shown) == 1:
            yield Padding(Text.assemble(head, ": ", how), (0, 0, 0, 2))
        else:
            yield Padding(Group(head, Padding(how, (0, 0, 0, 3))), (0, 0, 0, 2))


def _proof(trial: JSON | None) -> str:
    if not trial:
        return ""
    change = f"{trial['metric']} {number(trial['before'])} -> {number(trial['after'])}"
    return f" ({'verified' if trial['verified'] else 'did not help'}: {change})"


def _others(findings: list[JSON]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, title="Also found", title_style="bold")
    table.title_justify = "left"
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for finding in findings[:MAX_OTHERS]:
        severity = finding["severity"]
        by = finding["explained_by"]
        cause = f"explained by {', '.join(by)}: " if by else ""
        table.add_row(
            Text(f"{finding['code']} {finding['name']}"),
            Text(severity, style=SEVERITIES[severity]),
            Text(cause + finding["summary"]),
        )
    if len(findings) > MAX_OTHERS:
        table.add_row(Text(f"and {len(findings) - MAX_OTHERS} more", style="dim"))
    return table


def _doubts(record: JSON) -> Text | None:
    """What could not be judged, in sentences."""
    doubts = [record["reason"]] if record.get("reason") else record.get("limits") or []
    return Text("Not judged: " + "; ".join(doubts), style="yellow") if doubts else None


def _footer(record: JSON) -> Text:
    reasons = Counter(_kind(entry["reason"]) for entry in record["skipped"])
    detail = ", ".join(f"{count} {kind}" for kind, count in reasons.most_common())
    skipped = f"{len(record['skipped'])} skipped" + (f" ({detail})" if detail else "")
    cost = record["cost"]
    spent = [f"{name} {cost.get(name + '_s', 0.0):.1f} s" for name in ("training", "watching")]
    spent.append(f"examining {cost.get('examining_s', 0.0):.1f} s")
    checks = f"{len(record['passed'])} checks passed, {skipped}"
    return Text(f"{checks}\n{', '.join(spent)}", style="dim")


def _kind(reason: str) -> str:
    if reason.startswith("explained by"):
        return "explained by what was found"
    return "do not apply" if reason.startswith("does not apply") else "not measurable"


def _place(where: JSON) -> str:
    return f"{where['file']}:{where['line']}"


def number(value: float | str) -> str:
    return f"{float(value):.4g}"
