"""Batch norm layers with the usual momentum, or layer and group norm in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.probes.normalisation import normalising
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

SNIPPETS = {
    "momentum": "nn.BatchNorm1d(width, momentum=0.1)  # in PyTorch momentum is the weight of the new batch\n",
    "own": "nn.LayerNorm(width)  # nn.GroupNorm(1, channels) for images: no statistics of the batch\n",
}
OWN = {"BatchNorm1d": "LayerNorm({})", "BatchNorm2d": "GroupNorm(1, {})", "BatchNorm3d": "GroupNorm(1, {})"}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["way"]`: "momentum" or "own"."""
    sites, way = Sites(case), str(settings["way"])
    for maker in _makers(case, sites):
        (_usual_momentum if way == "momentum" else _without_batch)(maker)
    try:
        return sites.result()
    except NoEdit as no:
        raise NoEdit("no batch norm layer is made in your code in a way that can be changed", SNIPPETS[way]) from no


def _makers(case: Case, sites: Sites) -> Iterator[Spot]:
    """Calls that make batch norm layers, in the files that hold the recorded step and in the script."""
    files = {frame.code.co_filename for op in normalising(case.subject) for frame in op.frames}
    for source in {id(s): s for s in (sites.script(), *_readable(sites, files))}.values():
        for call in source.nodes(cst.Call):
            if dotted(call.func).rpartition(".")[2] in OWN and call.args:
                yield Spot(source, call)


def _readable(sites: Sites, files: set[str]) -> Iterator[Source]:
    for file in sorted(files):
        try:
            yield sites.source(file)
        except NoEdit:
            continue


def _usual_momentum(maker: Spot) -> None:
    assert isinstance(maker.node, cst.Call)  # noqa: S101 - see _makers
    for i, argument in enumerate(maker.node.args):
        if (argument.keyword is not None and argument.keyword.value == "momentum") or (
            argument.keyword is None and i == 2
        ):
            maker.source.replace(argument.value, "0.1")


def _without_batch(maker: Spot) -> None:
    assert isinstance(maker.node, cst.Call)  # noqa: S101 - see _makers
    prefix, _, name = dotted(maker.node.func).rpartition(".")
    width = maker.source.code(maker.node.args[0].value)
    if prefix:  # a name imported by itself may be the only one
        maker.source.replace(maker.node, f"{prefix}.{OWN[name].format(width)}")
