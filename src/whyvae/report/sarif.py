"""The record as SARIF 2.1.0, the form code hosts and editors show beside the source line."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from whyvae import pages

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}

JSON = dict[str, Any]


def sarif(record: JSON) -> JSON:
    found = {finding["code"]: finding["name"] for finding in record["findings"]}
    driver = {
        "name": "whyvae",
        "version": record["whyvae"],
        "rules": [_rule(code, name) for code, name in found.items()],
    }
    results = [_result(finding) for finding in record["findings"]]
    run = {"tool": {"driver": driver}, "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str, name: str) -> JSON:
    page = pages.pages().get(code)
    if page is None:
        return {"id": code, "name": name}
    return {
        "id": code,
        "name": name,
        "shortDescription": {"text": page.sentence},
        "help": {"text": page.text, "markdown": page.text},
    }


def _result(finding: JSON) -> JSON:
    result: JSON = {
        "ruleId": finding["code"],
        "level": LEVELS[finding["severity"]],
        "message": {"text": finding["summary"]},
    }
    where = finding["where"]
    if where:
        physical = {
            "artifactLocation": {"uri": _uri(where["file"])},
            "region": {"startLine": max(1, int(where["line"]))},
        }
        result["locations"] = [{"physicalLocation": physical}]
    return result


def _uri(file: str) -> str:
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
