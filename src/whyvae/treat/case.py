"""A diagnosed script: what the remedies may look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from whyvae.probe import Bench, CannotMeasure, Probe
from whyvae.record import Examination, Found
from whyvae.treat.source import read

P = TypeVar("P", bound=Probe)


@dataclass
class Case:
    """`subject` and `bench` as the examination used them; `script` is the file that was run, with its arguments."""

    script: Path
    args: list[str]
    subject: Any
    bench: Bench
    examination: Examination
    sources: dict[str, str] = field(default_factory=dict)

    @cached_property
    def first_cause(self) -> Found | None:
        return next((f for f in self.examination.findings if f.finding.severity != "info"), None)

    def found(self, code: str) -> Found:
        return next(f for f in self.examination.findings if f.code == code)

    def get(self, probe: type[P]) -> P | None:
        """A probe's numbers; None where it has none for this subject."""
        try:
            return self.bench.get(probe)
        except CannotMeasure:
            return None

    def source(self, file: str) -> str:
        """The text of one of the user's files with its own line ends, read once."""
        if file not in self.sources:
            self.sources[file] = read(file)
        return self.sources[file]
