"""Pages of rules as shipped text: no rule, and so no torch, is imported to read one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

HEADINGS = (
    "Why generation fails",
    "How it is measured",
    "What to do",
    "When it is wrong",
    "References",
)
_TITLE = re.compile(r"# (?P<name>[a-z0-9-]+) \((?P<code>[A-Z]{3}\d{2})\)\n\n(?P<sentence>[^\n]+)")


@dataclass(frozen=True, slots=True)
class Page:
    code: str
    name: str
    family: str
    sentence: str
    text: str


@cache
def pages() -> dict[str, Page]:
    """Every page by code, in the order of codes; a file without a title line is not a page."""
    found = _walk(files("whyvae").joinpath("rules"), "")
    return {page.code: page for page in sorted(found, key=lambda page: (page.family, page.code))}


def find(query: str) -> Page | None:
    """By code or by name, whatever the case."""
    by_name = {page.name: page for page in pages().values()}
    return pages().get(query.upper()) or by_name.get(query.lower().replace("_", "-"))


def closest(query: str) -> list[str]:
    """Codes and names that look like the query, best first."""
    words = {code.lower(): code for code in pages()}
    words |= {page.name: f"{page.name} ({code})" for code, page in pages().items()}
    return [words[match] for match in get_close_matches(query.lower(), words, n=3, cutoff=0.5)]


def known(selector: str) -> bool:
    """Does a code or prefix, as of --select, match any diagnosis?"""
    return bool(selector) and any(code.startswith(selector) for code in pages())


def _walk(folder: Traversable, family: str) -> Iterator[Page]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, entry.name)
        elif entry.name.endswith(".md"):
            text = entry.read_text("utf-8")
            if title := _TITLE.match(text):
                yield Page(**title.groupdict(), family=family, text=text)
