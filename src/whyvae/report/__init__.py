"""A report: the record of an examination that renders itself. Reads a dict, imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whyvae.record import Examination

if TYPE_CHECKING:
    from rich.console import RenderableType


class Report:
    """Of an examination, or of a record read back from JSON."""

    def __init__(self, record: Examination | dict[str, Any]) -> None:
        self._record = record.to_dict() if isinstance(record, Examination) else record

    @property
    def verdict(self) -> str:
        return str(self._record["verdict"])

    @property
    def findings(self) -> list[dict[str, Any]]:
        """As in the record: the cause to repair first stands first."""
        return list(self._record["findings"])

    def to_dict(self) -> dict[str, Any]:
        return self._record

    def to_json(self) -> str:
        return json.dumps(self._record, indent=1, ensure_ascii=False)

    def to_sarif(self, path: str | Path) -> None:
        from whyvae.report.sarif import sarif

        Path(path).write_text(json.dumps(sarif(self._record), indent=1), encoding="utf-8")

    def to_html(self, path: str | Path) -> None:
        from whyvae.report.terminal import to_html

        page = f"<!doctype html><meta charset=utf-8><title>whyvae</title>{to_html(self._record)}"
        Path(path).write_text(page, encoding="utf-8")

    def __str__(self) -> str:
        from whyvae.report.terminal import to_text

        return to_text(self._record)

    def __repr__(self) -> str:
        return f"<whyvae.Report: {self.verdict}, {len(self.findings)} findings>"

    def __rich__(self) -> RenderableType:
        from whyvae.report.terminal import render

        return render(self._record)

    def _repr_html_(self) -> str:
        from whyvae.report.terminal import to_html

        return to_html(self._record)
