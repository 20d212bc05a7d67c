"""A diagnosed script: what the remedies may look at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from whyvae.probe import Bench, CannotMeasure, Probe
from whyvae.probes.parts import further_parts
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
    part: int = 0  # of a loss of several likelihoods the one that `subject` and `bench` are of, as in `Finding`

    @cached_property
    def first_cause(self) -> Found | None:
        return next((f for f in self.examination.findings if f.finding.severity != "info"), None)

    def found(self, code: str) -> Found:
        return next(f for f in self.examination.findings if f.code == code)

    def about_first_cause(self) -> Case:
        """This case, of that likelihood of the loss in which the first cause was found."""
        return self.of(self.first_cause.finding.part if self.first_cause else 0)

    def of(self, part: int) -> Case:
        """This case, of that likelihood of the loss."""
        if not part:
            return self
        subject = further_parts(self.subject)[part - 1]
        return replace(self, subject=subject, bench=Bench(subject), part=part)

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
