"""What is done to the decoder's output before it is saved or shown: the sigmoid that training has, bytes from 0 to 255,
colours last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.operands import number
from whyvae.treat.program import calls
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sampling import known_decodings
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import PRODUCT, Source, dotted, tightness

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPETS = {
    "activation": "images = torch.sigmoid(decoder(z))  # as the loss does\n",
    "bytes": "pixels = (images * 255).round().astype(np.uint8)\n",
    "colours": "picture = image.permute(1, 2, 0)  # channels last\n",
    "range": "picture = (images - low) / (high - low)  # low, high: the range of the data that the model was given\n",
}
CASTS = ("astype", "byte", "to", "type")
SHOWS = {"save_image": 0, "imsave": 1, "imwrite": 1, "imshow": 0, "fromarray": 0}  # which argument is the picture
CLIPS = ("clamp", "clamp_", "clip", "clip_")
# Ends of the scales that pictures are kept in and are scaled to once too often: numbers near them are meant as them.
USUAL = (
    (0.0, 1.0),
    (-1.0, 1.0),
    (0.0, 255.0),
    (-255.0, 255.0),
    (0.0, 255.0**2),
    (-0.5, 0.5),
    (0.5, 1.0),
    (127.5, 255.0),
)
NEAR = 0.05  # of a scale's width: as far as the ends of noisy data are from those of their scale


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["what"]`: "activation", "bytes", "colours" or "range"."""
    sites = Sites(case)
    what = str(settings["what"])
    if what == "range":
        return _range(sites, settings)
    found = known_decodings(sites, SNIPPETS[what])
    spot = found[0].call
    if what == "activation":
        spot.source.replace(spot.node, f"{spot.closed}.sigmoid()")
        return sites.result()
    if not (_bytes(spot.source) if what == "bytes" else _colours(spot.source)):
        raise NoEdit("the conversion was not found", SNIPPETS[what], spot.where)
    return sites.result()


def _range(sites: Sites, settings: dict[str, Any]) -> dict[str, str]:
    """What arrives at the line where numbers are lost, from the data's range to the one that is kept there."""
    source, line = sites.source(str(settings["file"])), int(settings["line"])
    given, kept = (_usual(settings["low"], settings["high"]), (settings["floor"], settings["ceiling"]))
    if not given[1] > given[0] or kept[0] != 0:
        raise NoEdit("the picture is of one colour, or its range does not begin at 0", SNIPPETS["range"])
    for file, call, method in _casts(source, line):
        clipped = next((c for name in CLIPS for c in calls(file, name, method.value) if _own(c)), None)
        if clipped is not None and isinstance(clipped.func, cst.Attribute):  # what is cut off there is lost behind it
            file.replace(clipped.func.value, _mapped(file, clipped.func.value, given, kept[1]))
            return sites.result()
        mapped, rest = _mapped(file, method.value, given, kept[1]), ", ".join(file.code(a) for a in call.args)
        file.replace(call, f"({mapped}).round().clip(0, 255).{method.attr.value}({rest})")
        return sites.result()
    for node in _shown(source, line):
        source.replace(node, _mapped(source, node, given, kept[1]))
        return sites.result()
    raise NoEdit("the conversion was not found", SNIPPETS["range"], f"{source.path}:{line}")


def _usual(low: float, high: float) -> tuple[float, float]:
    """The scale that the ends are nearly those of; else the ends, as of data that were standardised."""
    near = (s for s in USUAL if max(abs(low - s[0]), abs(high - s[1])) <= NEAR * (s[1] - s[0]))
    return next(near, (float(f"{low:.4g}"), float(f"{high:.4g}")))


def _casts(source: Source, line: int) -> Iterator[tuple[Source, cst.Call, cst.Attribute]]:
    """(file, call, the method it calls) of the conversions to bytes on a line, and of what is shown on it by name."""
    made = [Spot(source, c) for name in CASTS for c in _on(source, line, name)]
    for node in _shown(source, line):
        values = bindings(Spot(source, node)) if isinstance(node, cst.Name) else ()
        made += [Spot(v.source, c) for v in values for name in CASTS for c in calls(v.source, name, v.node)]
    for spot in made:
        call = spot.node
        if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) and _is_to_bytes(spot.source, call):
            yield spot.source, call, call.func


def _shown(source: Source, line: int) -> Iterator[cst.BaseExpression]:
    """What is shown or saved by the calls on a line, or clamped there."""
    for name, position in SHOWS.items():
        for call in _on(source, line, name):
            given = [a.value for a in call.args if a.keyword is None]
            if len(given) > position:
                yield given[position]
    for name in CLIPS:
        for call in _on(source, line, name):
            if isinstance(call.func, cst.Attribute) and _own(call):
                yield call.func.value
            elif call.args:
                yield call.args[0].value


def _own(call: cst.Call) -> bool:
    """Is a method of the picture's called, no function of a module's?"""
    return isinstance(call.func, cst.Attribute) and dotted(call.func.value) not in {"torch", "np", "numpy"}


def _on(source: Source, line: int, name: str) -> list[cst.Call]:
    return [c for c in calls(source, name) if source.line(c) <= line <= source.end_line(c)]


def _mapped(source: Source, node: cst.BaseExpression, given: tuple[float, float], top: float) -> str:
    """`node`, linearly from the range `given` to 0 and `top`."""
    low, factor, text = given[0], top / (given[1] - given[0]), source.code(node)
    if low:
        moved = f"({text} {'+' if low < 0 else '-'} {abs(low):.4g})"
        return moved if factor == 1 else f"{moved} * {factor:.4g}"
    once_less = f" * {1 / factor:g}"
    if text.endswith(once_less):
        return text.removesuffix(once_less)
    whole = factor < 1 and abs(1 / factor - round(1 / factor)) < 1e-9
    factored = f" / {round(1 / factor)}" if whole else "" if factor == 1 else f" * {factor:.4g}"
    return (_product(source, node) if factored else text) + factored


def _is_to_bytes(source: Source, call: cst.Call) -> bool:
    named = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
    return named == "byte" or any("uint8" in source.code(a.value) for a in call.args)


def _bytes(source: Source) -> bool:
    """`x.astype(np.uint8)` -> `(x * 255).round().astype(np.uint8)`."""
    done = False
    for call in (c for name in CASTS for c in calls(source, name)):
        if not isinstance(call.func, cst.Attribute) or not _is_to_bytes(source, call):
            continue
        if "255" not in source.code(call.func.value):
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
