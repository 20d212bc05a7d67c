"""What an examination leaves behind, and its JSON form (schema 1). No torch, no renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whyvae import __version__
from whyvae.verdict import Evidence, Finding

SCHEMA = 1

Kind = Literal["cause", "symptom"]
Outcome = Literal["sick", "healthy", "inconclusive"]
JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A rule's finding. `explains` names the symptoms found in this very examination."""

    code: str
    name: str
    kind: Kind
    stage: int
    finding: Finding
    explains: tuple[str, ...] = ()

    def to_dict(self) -> JSON:
        finding = self.finding
        return {
            "code": self.code,
            "name": self.name,
            "kind": self.kind,
            "severity": finding.severity,
            "confidence": finding.confidence,
            "summary": finding.summary,
            "evidence": [evidence_dict(evidence) for evidence in finding.evidence],
            "where": finding.where and {"file": relative(finding.where.file), "line": finding.where.line},
            "explains": list(self.explains),
            "explained_by": list(finding.explained_by),
            "nats": None if finding.nats is None else number(finding.nats),
            "remedies": [
                {"name": remedy.name, "how": remedy.how, "safety": remedy.safety} for remedy in finding.remedies
            ],
            "page": f"whyvae explain {self.code}",
        }


@dataclass(frozen=True, slots=True)
class Passed:
    code: str
    name: str
    evidence: tuple[Evidence, ...] = ()

    def to_dict(self) -> JSON:
        return {"code": self.code, "evidence": [evidence_dict(e) for e in self.evidence]}


@dataclass(frozen=True, slots=True)
class NotRun:
    code: str
    name: str
    reason: str

    def to_dict(self) -> JSON:
        return {"code": self.code, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Examination:
    """`reason` is empty unless inconclusive. `limits`: what of this subject cannot be audited."""

    verdict: Outcome
    subject: JSON
    findings: tuple[Found, ...]
    passed: tuple[Passed, ...]
    skipped: tuple[NotRun, ...]
    cost: JSON
    reason: str = ""
    limits: tuple[str, ...] = ()

    def to_dict(self) -> JSON:
        return {
            "schema": SCHEMA,
            "whyvae": __version__,
            "verdict": self.verdict,
            "reason": self.reason,
            "limits": list(self.limits),
            "subject": plain(self.subject),
            "findings": [found.to_dict() for found in self.findings],
            "passed": [passed.to_dict() for passed in self.passed],
            "skipped": [skipped.to_dict() for skipped in self.skipped],
            "cost": plain(self.cost),
        }


def evidence_dict(evidence: Evidence) -> JSON:
    """`unit` and `text` appear only where they say something."""
    entry: JSON = {
        "what": evidence.what,
        "measured": number(evidence.measured),
        "op": evidence.limit.op,
        "limit": number(evidence.limit.value),
        "because": evidence.limit.because,
    }
    extra = {"unit": evidence.unit, "text": evidence.text}
    return entry | {key: value for key, value in extra.items() if value}


def number(value: float) -> float | str:
    """JSON knows no NaN and no infinity: they become the strings that `float()` reads back."""
    value = float(value)
    return value if math.isfinite(value) else str(value)


def relative(file: str) -> str:
    """As it is typed here: a path below the working directory without what leads to it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def plain(value: Any) -> Any:
    """Tuples to lists, odd floats to strings, anything JSON does not know to its text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str | int | bool | None) else str(value)
