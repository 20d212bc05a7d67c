"""Where a setting is written down under a name of its own, for programs in which nobody can follow it to its use."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from whyvae.treat.bindings import key_of_item, option_name
from whyvae.treat.literals import same
from whyvae.treat.operands import number
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import Source, dotted


def noted(sites: Sites, name: re.Pattern[str], value: float) -> list[tuple[str, Spot]]:
    """(key, literal of `value`): those in the user's files that stand under a name that `name` matches: an assignment, an argument or
    its default, an entry of a dictionary, an option of argparse. Texts that settings are read from: see `in_texts`.
    """
    found = ((key, Spot(s, v)) for s in sites.family for key, v in _entries(s) if name.search(key.lower()))
    return [(key, spot) for key, spot in found if same(number(spot.node), value)]


def in_texts(sites: Sites, name: re.Pattern[str], value: int) -> list[tuple[str, Spot, str]]:
    """(key, a string that holds `latent_dim: 8`, the same with room for the number, `{}`)."""
    entry = re.compile(rf"(?P<key>[\w-]+)(?P<between>[\"']?\s*[:=]\s*)(?P<number>{value})(?![\w.])")
    found = []
    for source in sites.family:
        for node in source.nodes(cst.SimpleString):
            if isinstance(source.parent(node), cst.Expr):  # a docstring sets nothing
                continue
            text = source.code(node)
            for match in entry.finditer(text):
                if name.search(match["key"].lower()):
                    start, end = match.span("number")
                    found.append((match["key"], Spot(source, node), f"{_plain(text[:start])}{{}}{_plain(text[end:])}"))
    return found


def _plain(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _entries(source: Source) -> Iterator[tuple[str, cst.CSTNode]]:
    """(key, value) of whatever gives a name to a value."""
    for node in source.nodes((cst.Assign, cst.AnnAssign, cst.Arg, cst.Param, cst.DictElement, cst.Call)):
        if isinstance(node, cst.Assign):
            for target in node.targets:
                yield from _assigned(target.target, node.value)
        elif isinstance(node, cst.AnnAssign) and node.value is not None:
            yield dotted(node.target), node.value
        elif isinstance(node, cst.Arg) and node.keyword is not None:
            yield str(node.keyword.value), node.value
        elif isinstance(node, cst.Param) and node.default is not None:
            yield str(node.name.value), node.default
        elif isinstance(node, cst.DictElement) and isinstance(node.key, cst.SimpleString):
            yield str(node.key.evaluated_value), node.value
        elif isinstance(node, cst.Call) and (option := option_name(node)):
            yield from ((option, a.value) for a in node.args if a.keyword is not None and a.keyword.value == "default")


def _assigned(target: cst.CSTNode, value: cst.CSTNode) -> Iterator[tuple[str, cst.CSTNode]]:
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple) and len(target.elements) == len(value.elements):
        for one, its in zip(target.elements, value.elements, strict=True):
            yield from _assigned(one.value, its.value)
    elif (key := key_of_item(target) or dotted(target)) and not isinstance(target, cst.Tuple):
        yield key.split(".")[-1], value
