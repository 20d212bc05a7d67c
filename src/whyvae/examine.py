"""Run rules over one subject, causes before symptoms, and draw the verdict."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from graphlib import TopologicalSorter
from typing import Any, Protocol

from whyvae.confidence import calibrated
from whyvae.probe import Bench, CannotMeasure, debugging
from whyvae.probes.facts import answered, described
from whyvae.probes.parts import further_parts
from whyvae.record import Examination, Found, NotRun, Outcome, Passed
from whyvae.rule import EARLIER, Rule, all_rules
from whyvae.verdict import Finding, Healthy, Skipped, Verdict

Rules = Mapping[str, type[Rule]]
Parts = Callable[[], list[Bench]]
SEVERITIES = ("error", "warning", "info")
# Reasons to skip that leave no doubt behind.
SETTLED = ("explained by", "does not apply")


class Subject(Protocol):
    """What an examination asks of a subject; probes ask for more."""

    cost: dict[str, float]  # training_s, watching_s

    def facts(self) -> dict[str, Any]:
        """The "subject" object of the record."""

    def limits(self) -> list[str]:
        """Sentences that name what of this subject cannot be audited."""


def examine(
    subject: Subject,
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    rules: Rules | None = None,
    bench: Bench | None = None,
) -> Examination:
    """`select` and `ignore` take codes or prefixes of codes: "OBJ" is every OBJ rule. `bench`: of this subject, to ask
    it afterwards for what was measured.
    """
    begin = time.perf_counter()
    chosen = choose(all_rules() if rules is None else rules, select, ignore)
    bench = bench or Bench(subject)
    verdicts = _judge(bench, chosen, cache(lambda: _benches(subject)))
    findings = _ranked(_linked(_found(chosen, verdicts)))
    skipped = tuple(
        NotRun(code, chosen[code].name(), v.reason) for code, v in verdicts.items() if isinstance(v, Skipped)
    )
    facts, unaudited = described(bench.get) if hasattr(subject, "lineage") else ({}, ())
    limits = (*_open_limits(subject, bench), *unaudited)
    verdict, reason = _conclude(chosen, findings, skipped, limits)
    return Examination(
        verdict=verdict,
        subject={**subject.facts(), **facts},
        findings=findings,
        passed=tuple(
            Passed(code, chosen[code].name(), v.evidence) for code, v in verdicts.items() if isinstance(v, Healthy)
        ),
        skipped=skipped,
        cost=_cost(subject, time.perf_counter() - begin, bench),
        reason=reason,
        limits=limits,
    )


def _open_limits(subject: Subject, bench: Bench) -> list[str]:
    limits = subject.limits()
    settled = answered(bench.get) if limits else ()
    return [limit for limit in limits if limit not in settled]


def choose(rules: Rules, select: Iterable[str] | None, ignore: Iterable[str] | None) -> Rules:
    wanted, unwanted = tuple(select or ("",)), tuple(ignore or ())
    return {code: rule for code, rule in rules.items() if code.startswith(wanted) and not code.startswith(unwanted)}


def _judge(bench: Bench, rules: Rules, parts: Parts) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    for code in _order(rules):
        blockers = [c for c in _required(rules, code) if _serious(verdicts.get(c), rules[code])]
        by = f"explained by {', '.join(blockers)}"
        verdicts[code] = Skipped(by) if blockers else _verdict_of_parts(bench, rules[code], parts)
    return verdicts


def _required(rules: Rules, code: str) -> tuple[str, ...]:
    """The codes without which `code` is judged; those that are not among `rules` count as absent."""
    rule = rules[code]
    if rule.requires == EARLIER:
        # a cause that explains a symptom does not void it: both are told
        before = (c for c, r in rules.items() if r.kind == "cause" and r.stage < rule.stage)
        return tuple(c for c in before if code not in rules[c].explains)
    return tuple(c for c in rule.requires if c in rules)


def _serious(verdict: Verdict | None, rule: type[Rule]) -> bool:
    """A remark (`info`) voids nothing, unless the rule names its code."""
    return isinstance(verdict, Finding) and (verdict.severity != "info" or rule.requires != EARLIER)


def _order(rules: Rules) -> Iterator[str]:
    """By stage, never before what a rule requires; a deselected requirement counts as absent."""
    sorter = TopologicalSorter({code: _required(rules, code) for code in rules})
    sorter.prepare()
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for code in sorter.get_ready():
            heapq.heappush(ready, (rules[code].stage, code))
        _, code = heapq.heappop(ready)
        yield code
        sorter.done(code)


def _benches(subject: Subject) -> list[Bench]:
    """One for each further likelihood of the loss."""
    return [Bench(part) for part in further_parts(subject)] if hasattr(subject, "lineage") else []


def _verdict_of_parts(bench: Bench, rule: type[Rule], parts: Parts) -> Verdict:
    verdict = _verdict(bench, rule)
    if not rule.each_part or isinstance(verdict, Finding):
        return verdict
    others = ((number, _verdict(part, rule)) for number, part in enumerate(parts(), 1))
    return next((replace(other, part=number) for number, other in others if isinstance(other, Finding)), verdict)


def _verdict(bench: Bench, rule: type[Rule]) -> Verdict:
    try:
        return bench.call(rule.check)
    except CannotMeasure as cannot:
        return Skipped(cannot.reason)
    except Exception as error:
        if debugging():
            raise
        return Skipped(f"{rule.code}: internal error {error!r}")


def _found(rules: Rules, verdicts: Mapping[str, Verdict]) -> list[Found]:
    return [
        Found(code, rules[code].name(), rules[code].kind, rules[code].stage, calibrated(code, v), rules[code].explains)
        for code, v in verdicts.items()
        if isinstance(v, Finding)
    ]


def _linked(found: list[Found]) -> list[Found]:
    """Causes keep of `explains` the symptoms found; symptoms learn which causes explain them."""
    symptoms = {f.code for f in found if f.kind == "symptom"}
    causes = [f for f in found if f.kind == "cause"]
    linked = []
    for f in found:
        if f.kind == "cause":
            linked.append(replace(f, explains=tuple(c for c in f.explains if c in symptoms)))
            continue
        by = (*f.finding.explained_by, *(c.code for c in causes if f.code in c.explains))
        finding = replace(f.finding, explained_by=tuple(dict.fromkeys(by)))
        linked.append(replace(f, finding=finding, explains=()))
    return linked


def _ranked(found: list[Found]) -> tuple[Found, ...]:
    def key(f: Found) -> tuple[bool, int, int, float, str]:
        """Of equals, what costs more first."""
        return f.kind == "symptom", f.stage, SEVERITIES.index(f.finding.severity), -(f.finding.nats or 0.0), f.code

    return tuple(sorted(found, key=key))


def _conclude(
    rules: Rules, findings: tuple[Found, ...], skipped: tuple[NotRun, ...], limits: tuple[str, ...]
) -> tuple[Outcome, str]:
    if any(f.finding.severity != "info" for f in findings):
        return "sick", ""
    undecided: dict[str, list[str]] = {}
    for s in skipped:
        if rules[s.code].decides() and not s.reason.startswith(SETTLED):
            undecided.setdefault(s.reason, []).append(s.code)
    doubts = [f"{', '.join(codes)} not judged: {reason}" for reason, codes in undecided.items()]
    if not findings and len(skipped) == len(rules):
        doubts.append("no check could be run")
    doubts = [*limits, *doubts]
    return ("inconclusive", "; ".join(doubts)) if doubts else ("healthy", "")


def _cost(subject: Subject, examining: float, bench: Bench) -> dict[str, Any]:
    return {
        "training_s": round(subject.cost.get("training_s", 0.0), 3),
        "watching_s": round(subject.cost.get("watching_s", 0.0), 3),
        "examining_s": round(examining, 3),
        "treating_s": 0.0,
        "probes_s": {name: round(seconds, 3) for name, seconds in bench.seconds.items()},
    }
