"""What is done to the decoder's output before it is saved or shown: the sigmoid that training has, bytes from 0 to 255,
colours last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.operands import number
from whyvae.treat.program import calls
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sampling import decodings
from whyvae.treat.sites import Sites
from whyvae.treat.source import PRODUCT, Source, dotted, tightness

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPETS = {
    "activation": "images = torch.sigmoid(decoder(z))  # as the loss does\n",
    "bytes": "pixels = (images * 255).round().astype(np.uint8)\n",
    "colours": "picture = image.permute(1, 2, 0)  # channels last\n",
}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["what"]`: "activation", "bytes" or "colours"."""
    sites = Sites(case)
    what = str(settings["what"])
    found = decodings(sites)
    if not found:
        raise NoEdit("no place was found where new examples are made", SNIPPETS[what])
    spot = found[0].call
    if what == "activation":
        spot.source.replace(spot.node, f"{spot.closed}.sigmoid()")
        return sites.result()
    if not (_bytes(spot.source) if what == "bytes" else _colours(spot.source)):
        raise NoEdit("the conversion was not found", SNIPPETS[what], spot.where)
    return sites.result()


def _bytes(source: Source) -> bool:
    """`x.astype(np.uint8)` -> `(x * 255).round().astype(np.uint8)`."""
    done = False
    for call in (c for name in ("astype", "byte", "to", "type") for c in calls(source, name)):
        whole = call.func.attr.value == "byte" if isinstance(call.func, cst.Attribute) else False
        whole |= any("uint8" in source.code(a.value) for a in call.args)
        if not whole or not isinstance(call.func, cst.Attribute) or "255" in source.code(call.func.value):
            continue
        source.replace(call.func.value, f"({_product(source, call.func.value)} * 255).round()")
        done = True
    return done


def _colours(source: Source) -> bool:
    """`picture.reshape(8, 8, 3)` -> the transposition that puts the colours last."""
    done = False
    for call in (c for name in ("reshape", "view") for c in calls(source, name)):
        last = [a.value for a in call.args][-1:]
        if last and isinstance(last[0], cst.Tuple):
            last = [last[0].elements[-1].value]
        if not last or number(last[0]) != 3 or not isinstance(call.func, cst.Attribute):
            continue
        swap = "transpose" if _is_numpy(source, call) else "permute"
        axes = "1, 2, 0" if len(call.args) == 3 else "0, 2, 3, 1"
        source.replace(call, f"{source.code(call.func.value)}.{swap}({axes})")
        done = True
    return done


def _is_numpy(source: Source, call: cst.Call) -> bool:
    """Was the array made by `.numpy()`, as far as the text of its loop and function shows?"""
    root = dotted(call.func).split(".")[0]
    lines = [s for s in source.nodes((cst.Assign, cst.For)) if root in source.code(s).split("=")[0].split(" in ")[0]]
    return any(".numpy()" in source.code(s).split(":\n")[0] for s in lines) or ".numpy()" in source.code(call)


def _product(source: Source, node: cst.CSTNode) -> str:
    return source.code(node) if tightness(node) >= PRODUCT else f"({source.code(node)})"
