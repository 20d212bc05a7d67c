"""What a rule can say: one of three verdicts, each carrying its evidence. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
Safety = Literal["certain", "retrain", "architecture"]


@dataclass(frozen=True, slots=True)
class Where:
    """The user's source line a finding points at."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold, written once. `op` is what incriminates: "<" means that too small is ill."""

    op: Literal["<", ">"]
    value: float
    because: str

    def __post_init__(self) -> None:
        if not self.because.strip():
            raise ValueError(f"limit {self.op} {self.value:g} gives no reason: say where it comes from")

    def broken_by(self, measured: float) -> bool:
        """NaN breaks every limit: a number that does not exist cannot acquit."""
        if math.isnan(measured):
            return True
        return measured < self.value if self.op == "<" else measured > self.value


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured number against one limit.

    Yes/no evidence measures 0 or 1 and says in `text` what was seen, in place of the numbers.
    """

    what: str
    measured: float
    limit: Limit
    unit: str = ""
    text: str = ""

    @property
    def incriminating(self) -> bool:
        return self.limit.broken_by(self.measured)

    def __str__(self) -> str:
        if self.text:
            return f"{self.text} ({self.limit.because})"
        unit = f" {self.unit}" if self.unit else ""
        side = {"<": "below", ">": "above"}[self.limit.op]
        relation = f"{side} the limit" if self.incriminating else f"not {side} the limit"
        limit = f"{self.limit.value:.4g}{unit}"
        return f"{self.what}: {self.measured:.4g}{unit}, {relation} {limit} ({self.limit.because})"


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change to try. `safety`: cannot hurt, needs a new run, or changes the architecture."""

    name: str
    how: str
    safety: Safety = "retrain"


@dataclass(frozen=True, slots=True)
class Finding:
    """`nats`: what it costs per example, where known. `explained_by` and `part` are filled by examine: of a loss of several
    likelihoods, the one that was judged (`probes.parts.further_parts`, counted from 1; 0 the first, which stands for all).
    """

    evidence: tuple[Evidence, ...]
    summary: str
    severity: Severity
    confidence: float
    where: Where | None = None
    nats: float | None = None
    remedies: tuple[Remedy, ...] = ()
    explained_by: tuple[str, ...] = ()
    part: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence is a probability, got {self.confidence}")


@dataclass(frozen=True, slots=True)
class Healthy:
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A reason beginning with "does not apply": the question makes no sense for this subject."""

    reason: str


Verdict = Finding | Healthy | Skipped
