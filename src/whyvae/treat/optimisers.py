"""Where an optimiser is made, and its settings."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from whyvae.treat.literals import literals, written
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import Source, dotted

KNOWN = {"Adam", "AdamW", "SGD", "RMSprop", "Adamax", "NAdam", "RAdam", "Adagrad", "LBFGS", "Adadelta"}


def is_maker(call: cst.Call) -> bool:
    """Does a call make an optimiser: `torch.optim.Adam(...)`?"""
    return dotted(call.func).split(".")[-1] in KNOWN and bool(call.args)


def makers(source: Source) -> Iterator[cst.Call]:
    yield from (call for call in source.nodes(cst.Call) if is_maker(call))


def maker_of(sites: Sites, number: int = 0) -> Spot:
    """The call that made the optimiser that was seen stepping.

    Raises:
        NoEdit: there is none, or more than one of its kind.
    """
    subject = sites.subject
    if not subject.optimizers:
        raise NoEdit("the parameters are stepped without an optimiser")
    optimizer = subject.optimizers[number]
    files = [str(sites.script().path), *([optimizer.stepped_at.file] if optimizer.stepped_at else [])]
    files += [source.path for source in sites.family]
    for file in dict.fromkeys(files):
        source = sites.source(file)
        found = [c for c in makers(source) if dotted(c.func).split(".")[-1] == optimizer.name]
        if len(found) > number:
            return Spot(source, found[number])
    raise NoEdit(f"the line that makes the {optimizer.name} was not found")


def setting(maker: Spot, key: str, position: int = -1) -> cst.BaseExpression | None:
    """What a maker is given for a setting; None where it is left out."""
    assert isinstance(maker.node, cst.Call)  # noqa: S101 - a maker is a call
    for i, argument in enumerate(maker.node.args):
        if (argument.keyword is None and i == position) or (
            argument.keyword is not None and argument.keyword.value == key
        ):
            return argument.value
    return None


def add_setting(maker: Spot, text: str) -> None:
    """`, lr=1e-4` behind the last argument."""
    assert isinstance(maker.node, cst.Call)  # noqa: S101 - a maker is a call
    last = maker.node.args[-1]
    maker.source.cut(last, last, f", {text}")


def change(spot: Spot, old: float, new: float) -> None:
    """The literal behind an expression of value `old` becomes `new`; where it is computed, it is multiplied."""
    found = literals(spot, old)
    if len(found) == 1:
        found[0].source.replace(found[0].node, written(new, found[0].code))
    else:
        spot.source.scale(spot.node, f"{written(new / old)} * ")
