"""Writes docs/calibration.md from the results of the bank; with --status, a short table to a file of your choice.

python -m bench.bank.page [--out FOLDER] [--again FOLDER] [--status FILE] [--traincheck FILE]

FOLDER of --again holds a second exam: `python -m bench.bank --draw 1 --exam`, other patients than the plan's. Without --out it alone
is renewed, and the rest of the page is left as it was measured.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.bank import fit
from bench.bank.plan import EXAM_FAMILIES, EXAM_SEED, plan
from bench.bank.results import (
    CERTIFICATES,
    HARM,
    NO_KL,
    Row,
    answer,
    bootstrap,
    by_chance,
    by_curve,
    by_kl,
    calibration_error,
    claims,
    load,
    mistaken,
    named,
    precision,
    right,
    share,
    sick,
    single,
    twins,
    well,
)  # fmt: skip

from whyvae.confidence import probability
from whyvae.rule import all_rules

ENOUGH = 400  # patients: about ten a code
SECOND, BY_CODE = "## A second exam", "## By code, on the exam"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "calibration.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--status", type=Path, help="write development numbers here, and leave the page alone")
    parser.add_argument("--traincheck", type=Path, help="JSON of what TrainCheck said, by patient")
    parser.add_argument("--again", type=Path, help="results of a second exam")
    options = parser.parse_args()
    if options.out is None:
        if options.again is None:
            parser.error("give --out, or --again to renew the second exam alone")
        DOCS.write_text(renewed(DOCS.read_text(), load(options.again)))
        return
    rows = load(options.out)
    if options.status:
        options.status.write_text(status(rows))
        return
    again = load(options.again) if options.again else []
    DOCS.write_text(page(rows, json.loads(options.traincheck.read_text()) if options.traincheck else None, again))


def renewed(text: str, again: list[Row]) -> str:
    """The page with another second exam; all else on it stays what was measured at the commits it names."""
    start, end = text.find(SECOND), text.index(BY_CODE)
    second = _again(again)
    return text[: start if start >= 0 else end] + (f"{second}\n\n" if second else "") + text[end:]


def page(rows: list[Row], traincheck: dict[str, Any] | None = None, again: list[Row] | None = None) -> str:
    exam, known = [r for r in rows if r["exam"]], [r for r in rows if not r["exam"]]
    parts = [
        _head(rows, exam), "## Main numbers", _main(exam, known), _again(again or []), BY_CODE, _by_code(exam, known),
        "## What each is mistaken for, on the exam", _confusion(exam), "## Confidence", _confidence(exam, known),
        "## By form, severity, family and kind of model (all patients)", _by_kind(rows), "## What the faults cost", _cost(rows),
        "## Baselines (all patients trained in process)", _baselines(rows), _traincheck(rows, traincheck), _time(rows),
    ]  # fmt: skip
    parts.append(
        "## How this run came about\n\n" + str(traincheck["history"]) if traincheck and "history" in traincheck else ""
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(" | ".join(["", *cells, ""]).strip() for cells in (head, ["---"] * len(head), *lines))


def _head(rows: list[Row], exam: list[Row]) -> str:
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return (
        "# Calibration\n\nHow often the diagnosis is right, measured on VAEs with a fault injected on purpose. This page is "
        "written by `python -m bench.bank.page` from what `python -m bench.bank` measured; nobody edits it.\n\n"
        f"- {len(rows)} patients of the {len(plan())} planned, a prefix of a stratified order ({len(sick(rows))} ill, {len(well(rows))} healthy; "
        f"{sum(r['form'] == 'script' for r in rows)} as scripts under `whyvae run`), {dt.datetime.now(tz=dt.UTC).date()}, "
        f"commit {commits}, {len(all_rules())} rules.\n"
        f"- The exam: {len(exam)} of them, from data families ({', '.join(EXAM_FAMILIES)}) and seeds (from {EXAM_SEED} on) that were used "
        "for no limit and for no confidence. The fault, its severity and the layout of the script are drawn alike on both sides: new are "
        "the data and the seeds, not the kinds of fault.\n"
        "- *First cause right*: the first finding is the injected code, or another code for the same mistake (declared beside the fault). "
        "A certificate is a check that is exact; the others are statistical.\n"
        f"- {_power(len(rows))}\n"
        "- Intervals are 95 %: Wilson for shares, bootstrap for the calibration error."
    )


def _power(n: int) -> str:
    if n >= ENOUGH:
        return "Enough patients for shares of a few per cent; per code, read the intervals."
    return (
        f"**Too few to judge a code by**: fewer than {ENOUGH} patients were reached in the time there was. Read the intervals, not the "
        "shares; run `python -m bench.bank --out FOLDER` again to go on where it stopped. Rows measured at an earlier commit may "
        "lack rules that were added since."
    )


def _main(exam: list[Row], known: list[Row]) -> str:
    def certificates(rows: list[Row]) -> list[Row]:
        return [row for row in single(rows) if row["codes"][0] in CERTIFICATES]

    def lines(rows: list[Row]) -> list[str]:
        ill, fine = sick(rows), well(rows)
        return [
            share(right(r) for r in ill), share(answer(r) in r["codes"] for r in ill), share(right(r, 2) for r in ill), share(right(r) for r in certificates(rows)),
            share(right(r) for r in single(rows) if r["codes"][0] not in CERTIFICATES), share(r["verdict"] == "sick" for r in fine),
            share(r["verdict"] != "healthy" for r in fine), share(bool(named(r)) for r in ill),
            share((named(a) or ["-"])[0] == (named(b) or ["-"])[0] for a, b in twins(rows)),
        ]  # fmt: skip

    labels = [
        "first cause right", "the same, to the letter (no equivalents)", "right cause among the first two", "first cause right, certificates",
        "first cause right, statistical", "false alarms on healthy", "healthy, but not called healthy",
        "ill, and something found", "same first cause with another seed",
    ]  # fmt: skip
    goals = [">= 90 %", "", ">= 97 %", "100 %", "", "<= 2 %", "", "", ">= 95 %"]
    columns = (labels, goals, lines(exam), lines(known))
    return _table(["", "aim", "exam", "development"], [list(cells) for cells in zip(*columns, strict=True)])


def _again(rows: list[Row]) -> str:
    """A later exam of patients that no number on this page was measured on."""
    if not rows:
        return ""
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    alarms = Counter((named(r) or [r["verdict"]])[0] for r in well(rows) if r["verdict"] != "healthy")
    missed = Counter(f"{r['codes'][0]} led by {(named(r) or [r['verdict']])[0]}" for r in sick(rows) if not right(r))
    return (
        f"{SECOND}\n\n{len(rows)} patients ({len(sick(rows))} ill, {len(well(rows))} healthy; "
        f"{sum(r['form'] == 'script' for r in rows)} as scripts) of another draw of the plan, of the exam's families and seeds, "
        f"at commit {commits}: none was seen before, by a person or by a limit. All else on this page is of the commits at its top.\n\n"
        f"{_main(rows, [])}\n\nMissed: {_counted(missed)}.\n\nFalse alarms: {_counted(alarms)}."
    )


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{k} ({n})" if n > 1 else k for k, n in found.most_common()) or "none"


def _by_code(exam: list[Row], known: list[Row]) -> str:
    codes = sorted(
        {c for r in [*exam, *known] for c in r["codes"]} | {named(r)[0] for r in [*exam, *known] if named(r)}
    )
    lines = []
    for code in codes:
        recall, recall_known = ([right(r) for r in single(rows) if r["codes"] == [code]] for rows in (exam, known))
        rule = "" if code in all_rules() else " (no rule yet)"
        lines.append(
            [
                code + rule,
                share(recall),
                share(precision(exam, code)),
                share(recall_known),
                share(precision(known, code)),
            ]
        )
    head = ["code", "recall, exam", "precision, exam", "recall, development", "precision, development"]
    return _table(head, lines)


def _confusion(rows: list[Row]) -> str:
    lines = []
    for code in sorted({r["codes"][0] for r in single(rows)}):
        wrong = mistaken(rows, code)
        total = sum(r["codes"] == [code] for r in single(rows))
        if wrong:
            lines.append(
                [
                    code,
                    str(total),
                    str(total - sum(wrong.values())),
                    ", ".join(f"{k} {n}" for k, n in wrong.most_common()),
                ]
            )
    fine = Counter((named(r) or [r["verdict"]])[0] for r in well(rows) if r["verdict"] != "healthy")
    healthy = len(well(rows))
    lines.append(
        [
            "healthy",
            str(healthy),
            str(healthy - sum(fine.values())),
            ", ".join(f"{k} {n}" for k, n in fine.most_common()) or "-",
        ]
    )
    return _table(["injected", "patients", "right", "otherwise led by"], lines)


def _confidence(exam: list[Row], known: list[Row]) -> str:
    table = fit.fit(claims(known))
    sets = {
        "exam, by the table fitted on development": [
            (probability(table, c.code, c.margin), c.right) for c in claims(exam) if c.code in table["offset"]
        ],
        "development, each family by a table fitted without it": fit.left_out(claims(known)),
        "exam, statistical causes, as the rules say": [(c.confidence, c.right) for c in claims(exam, _statistical)],
        "development, the same": [(c.confidence, c.right) for c in claims(known, _statistical)],
        "exam, certificates (typed 0.99)": [
            (c.confidence, c.right) for c in claims(exam, lambda code: code in CERTIFICATES)
        ],
    }
    lines = []
    for name, pairs in sets.items():
        if pairs:
            low, high = bootstrap(pairs)
            lines.append([name, str(len(pairs)), f"{mean(c for c, _ in pairs):.2f}", share(r for _, r in pairs),
                          f"{calibration_error(pairs):.3f} ({low:.3f} to {high:.3f})"])  # fmt: skip
    text = (
        "The confidence of a statistical finding comes from `src/whyvae/confidence.json`: a logistic curve over the margin (how far past "
        "its limit the weakest number lies), one offset a code, drawn to a common one where patients are few."
    )
    if not table["offset"]:
        text += (
            f" **Not fitted yet**: development patients gave fewer than {fit.FEWEST} findings of statistical causes, so rules keep the "
            "confidence they give themselves, which is typed, not measured."
        )
    return text + "\n\n" + _table(["findings of", "n", "mean confidence", "right", "expected calibration error"], lines)


def _statistical(code: str) -> bool:
    return code not in CERTIFICATES and code in all_rules() and all_rules()[code].kind == "cause"


def _by_kind(rows: list[Row]) -> str:
    keys: dict[str, Any] = {
        "form": lambda r: r["form"], "severity": lambda r: r["faults"][0][1] if len(r["faults"]) == 1 else "",
        "family": lambda r: r["family"], "architecture": lambda r: r["architecture"], "likelihood": lambda r: r["likelihood"],
        "layout": lambda r: r["style"]["layout"], "faults": lambda r: {0: "", 1: "one", 2: "two"}[len(r["faults"])],
    }  # fmt: skip
    lines = []
    for name, key in keys.items():
        for value in sorted({key(r) for r in rows} - {""}):
            some = [r for r in rows if key(r) == value]
            alarms = share(r["verdict"] == "sick" for r in well(some))
            lines.append([f"{name}: {value}", share(right(r) for r in sick(some)), alarms])
    return _table(["", "first cause right", "false alarms on healthy"], lines)


def _cost(rows: list[Row]) -> str:
    text = (
        "Harm is the generation quality (0 to 1, precision, recall and coverage against real rows, `whyvae.score`) that the patient lost "
        "against healthy ones of the same data and model. It is measured, not assumed; a fault that shows no harm here is still a fault "
        "of the script, but nobody suffers from it."
    )
    lines = []
    for level in ("mild", "medium", "strong"):
        harms = [r["harm"] for r in single(rows) if r["faults"][0][1] == level and r.get("harm") is not None]
        if harms:
            lines.append([level, str(len(harms)), f"{median(harms):.2f}", share(h > HARM for h in harms)])
    done = [r["quality"] for r in well(rows) if r.get("quality") is not None]
    harmed = [r for r in sick(rows) if r.get("harm") is not None]
    text += f" Healthy patients reach {median(done):.2f} (median of {len(done)})." if done else ""
    split = (
        f"First cause right where harm was measured: {share(right(r) for r in harmed if r['harm'] > HARM)}; "
        f"where none was: {share(right(r) for r in harmed if r['harm'] <= HARM)}."
    )
    return text + "\n\n" + _table(["severity", "n", "median harm", f"harm above {HARM}"], lines) + "\n\n" + split


def _baselines(rows: list[Row]) -> str:
    done = [r for r in rows if r["form"] == "process" and "curve" in r]
    ill, fine = single(done), well(done)

    def line(name: str, says: Any) -> list[str]:
        return [name, share(bool(set(r["codes"]) & set(says(r))) for r in ill), share(bool(says(r)) for r in ill),
                share(bool(says(r)) for r in fine)]  # fmt: skip

    lines = [
        line("whyvae (first cause)", lambda r: [*named(r)[:1], *(r["accept"] and [])]),
        line("loss and gradient rules (our own rebuild of what such watchers look at)", by_curve),
        line(f"a callback that warns of a KL below {NO_KL} nats", by_kl),
        ["guessing by prevalence", f"{100 * by_chance(done):.0f} %", "-", "-"],
    ]
    text = (
        "For the baselines a warning counts as right if any code it could stand for is the injected one (three guesses for the price of "
        "one); for whyvae only the first cause counts, without the declared equivalents."
    )
    return text + "\n\n" + _table(["", "cause right", "noticed anything", "false alarms on healthy"], lines)


def _traincheck(rows: list[Row], said: dict[str, Any] | None) -> str:
    if said is None:
        return ""
    if "note" in said:
        return "### TrainCheck\n\n" + str(said["note"])
    by_id = {row["id"]: row for row in rows}
    ill = [said[i]["violations"] > 0 for i in said if i in by_id and by_id[i]["codes"]]
    fine = [said[i]["violations"] > 0 for i in said if i in by_id and not by_id[i]["codes"]]
    return f"### TrainCheck\n\nNoticed anything: {share(ill)} of the ill, {share(fine)} of the healthy (twins as references)."


def _time(rows: list[Row]) -> str:
    costs = sorted(r["cost"]["examining_s"] for r in rows if "cost" in r)
    if not costs:
        return ""
    return (
        f"## Time\n\nExamining took {median(costs):.1f} s (median; 95 % below {costs[int(0.95 * len(costs))]:.1f} s) on one thread of a "
        f"busy machine with two cores; training {median(r['cost']['training_s'] for r in rows if 'cost' in r):.1f} s."
    )


def status(rows: list[Row]) -> str:
    known, exam = [r for r in rows if not r["exam"]], [r for r in rows if r["exam"]]
    lines = [
        ["code", "right / patients", "mistaken for (development patients only)", "precision", "exam right / patients"]
    ]
    out = [
        f"# Bank: {len(rows)} patients, commits {', '.join(sorted({r['commit'] for r in rows}))}",
        "",
        _main(exam, known),
        "",
    ]
    codes = sorted({r["codes"][0] for r in single(rows)})
    for code in codes:
        mine, theirs = ([r for r in single(rs) if r["codes"] == [code]] for rs in (known, exam))
        wrong = ", ".join(f"{k} {n}" for k, n in mistaken(known, code).most_common())
        rule = "" if code in all_rules() else " (no rule)"
        lines.append([code + rule, f"{sum(map(right, mine))}/{len(mine)}", wrong, share(precision(known, code)),
                      f"{sum(map(right, theirs))}/{len(theirs)}"])  # fmt: skip
    out += [_table(lines[0], lines[1:]), "", "## Development patients that went wrong", ""]
    for r in known:
        if not right(r):
            what = "+".join(f"{n}:{s}" for n, s in r["faults"]) or f"healthy ({r['twist']})"
            harm = "" if r.get("harm") is None else f" harm {r['harm']:.2f}"
            codes_said = " ".join(named(r)) or r["verdict"]
            reason = r.get("reason", "")[:160] if not named(r) else ""
            base = f"{r['family']}-{r['architecture']}-{r['likelihood']}"
            out.append(
                f"- {r['id']} {what} [{base}, {r['style']['layout']}, {r['form']}]: wanted {'+'.join(r['codes']) or 'healthy'}, got {codes_said}{harm} {reason}"
            )
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main()
