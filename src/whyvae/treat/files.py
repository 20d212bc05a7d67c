"""The user's files beside the one at hand: what they import from each other."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst

from whyvae.treat.source import Source, dotted

_LIBRARIES = (sysconfig.get_path("stdlib"), str(Path(__file__).resolve().parents[1]))


@dataclass(frozen=True, slots=True)
class Import:
    """`alias` stands for `name` of the module in `file`; for the module itself where `name` is ""; "*": for each name."""

    alias: str
    name: str
    file: str


def imports(source: Source) -> list[Import]:
    """What a file imports from others of the user's."""
    kept: list[Import] | None = source.__dict__.get("_imports")
    if kept is None:
        kept = [i for node in source.nodes((cst.Import, cst.ImportFrom)) for i in _of(source, node)]
        source.__dict__["_imports"] = kept
    return kept


def _of(source: Source, node: cst.Import | cst.ImportFrom) -> Iterator[Import]:
    if isinstance(node, cst.Import):
        for alias in node.names:
            file = _file(source, dotted(alias.name), 0)
            if file:
                yield Import(alias.evaluated_alias or dotted(alias.name), "", file)
        return
    module, level = "" if node.module is None else dotted(node.module), len(node.relative)
    file = _file(source, module, level)
    if isinstance(node.names, cst.ImportStar):
        if file:
            yield Import("*", "*", file)
        return
    for alias in node.names:
        name = dotted(alias.name)
        below = _file(source, f"{module}.{name}" if module else name, level)  # `from package import config`
        if below or file:
            yield Import(alias.evaluated_alias or name, "" if below else name, below or file)


def _file(source: Source, module: str, level: int) -> str:
    """The file of a module as seen from another; "" where it is none of the user's."""
    here = Path(source.path).resolve().parent
    for _ in range(level - 1):
        here = here.parent
    at = here.joinpath(*module.split("."))
    for file in (at.with_suffix(".py"), at / "__init__.py") if module else ():
        if file.is_file():
            return str(file)
    loaded = str(getattr(sys.modules.get(module), "__file__", "")) if not level else ""  # the script has just run
    return loaded if loaded.endswith(".py") and _is_users(loaded) else ""


def _is_users(file: str) -> bool:
    return "site-packages" not in file and not file.startswith(_LIBRARIES)
