"""New samples are taken back to the units of the data, by the inverse of `(x - shift) / scale`, with the same names.

`settings["way"]`: "inverse" rewrites what is already done to samples, with these names or by a scaler's `transform`; "samples"
adds an expression where samples are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.operands import number
from whyvae.treat.program import calls
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sampling import known_decodings
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import PRODUCT, SUM, Source, dotted, tightness

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = "rows = samples * std + mean  # of x = (x - mean) / std, with the same mean and std\n"
LEAVES = {"numpy", "tolist", "cpu", "detach", "shape", "size", "item", "save", "astype"}  # torch, or what is drawn
ARITHMETIC = (cst.Add, cst.Subtract, cst.Multiply, cst.Divide)


@dataclass(frozen=True)
class Scaling:
    """`(x - shift) / scale`, as it is written."""

    source: Source
    node: cst.BinaryOperation
    sample: cst.BaseExpression  # x
    shift: cst.BaseExpression
    scale: cst.BaseExpression

    @property
    def texts(self) -> tuple[str, str]:
        return self.source.code(self.shift), self.source.code(self.scale)

    @property
    def names(self) -> set[str]:
        return {name for node in (self.shift, self.scale) for name in _names(self.source, node)}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if settings["way"] == "inverse" and _scaled_again(sites):
        return sites.result()
    found = [s for file in sites.family for s in _scalings(file)]
    if not found:
        raise NoEdit("no `(x - mean) / std` was found in the source", SNIPPET)
    done = _rewritten(sites, found) if settings["way"] == "inverse" else _added(sites, found)
    if not done:
        raise NoEdit("the numbers that the data was scaled with have no name where samples are made", SNIPPET)
    return sites.result()


def _scaled_again(sites: Sites) -> bool:
    """`scaler.transform(samples)` -> `scaler.inverse_transform(samples)`, and `(samples - mean) / std` -> `samples * std + mean`,
    behind the call that decodes, in its function.
    """
    done = False
    for decoding in known_decodings(sites, SNIPPET):
        source, here = decoding.call.source, decoding.call.node
        for call in calls(source, "transform"):
            if isinstance(call.func, cst.Attribute) and _behind(source, here, call):
                source.replace(call.func.attr, "inverse_transform")
                done = True
        for again in _scalings(source):
            if _behind(source, here, again.node):
                source.replace(again.node, _inverted(source, again.sample, *again.texts))
                done = True
    return done


def _behind(source: Source, here: cst.CSTNode, node: cst.CSTNode) -> bool:
    """Does `node` stand behind `here`, in the same function?"""
    same = source.enclosing(node, cst.FunctionDef) is source.enclosing(here, cst.FunctionDef)
    return same and source.line(node) >= source.line(here)


def _scalings(source: Source) -> Iterator[Scaling]:
    for node in source.nodes(cst.BinaryOperation):
        left = node.left
        if not isinstance(node.operator, cst.Divide) or not isinstance(left, cst.BinaryOperation):
            continue
        plain = isinstance(left.operator, cst.Subtract) and left.lpar and number(node.right) is None
        if plain and _written_again(left.right) and _written_again(node.right):
            yield Scaling(source, node, left.left, left.right, node.right)


def _written_again(node: cst.BaseExpression) -> bool:
    """Made of names and numbers only, so that it means the same elsewhere: `std`, `s.high - s.low`, `sd + 1e-6`."""
    if isinstance(node, cst.BinaryOperation):
        return _written_again(node.left) and _written_again(node.right)
    if isinstance(node, cst.Subscript):
        return _written_again(node.value)
    return bool(dotted(node)) or number(node) is not None


def _names(source: Source, node: cst.CSTNode) -> Iterator[str]:
    """Names and dotted names, the longest of each: `scaler.std`, not `scaler` too."""
    for name in source.nodes((cst.Name, cst.Attribute), node):
        full = dotted(name)
        if full and not isinstance(source.parent(name), cst.Attribute):
            yield full


# ---------------------------------------------------------------- what is there, rewritten
def _rewritten(sites: Sites, scalings: list[Scaling]) -> bool:
    """`rows * mean + std` -> `rows * std + mean`: behind the call that decodes, in its function; where nothing is, in a function
    that is given what it takes back.
    """
    found = [(source, *one) for source in sites.family for one in _wrong(source, scalings)]
    made = [(d.call.source, d.call.node) for d in known_decodings(sites, SNIPPET)]
    behind = [f for f in found if any(f[0] is source and _behind(source, here, f[1]) for source, here in made)]
    chosen = behind or [f for f in found if _given(f[0], f[1], f[2])]
    for source, node, _, text in chosen:
        source.replace(node, text)
    return bool(chosen)


def _wrong(source: Source, scalings: list[Scaling]) -> Iterator[tuple[cst.BinaryOperation, cst.BaseExpression, str]]:
    """(Expression, the sample in it, what it should be) of each that has the names of a scaling in sums and products."""
    for node in _outermost(source):
        outside = (s for s in scalings if not source.inside(node, s.node))
        one = next((found for s in outside if (found := _inverse(source, node, s)) is not None), None)
        if one is not None:
            yield node, *one


def _given(source: Source, node: cst.CSTNode, sample: cst.BaseExpression) -> bool:
    """Is the sample a parameter of the function?"""
    function = source.enclosing(node, cst.FunctionDef)
    return function is not None and dotted(sample) in {p.name.value for p in function.params.params}


def _outermost(source: Source) -> Iterator[cst.BinaryOperation]:
    for node in source.nodes(cst.BinaryOperation):
        if _is_arithmetic(node) and not _is_arithmetic(source.parent(node)):
            yield node


def _is_arithmetic(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.BinaryOperation) and isinstance(node.operator, ARITHMETIC)


def _inverse(source: Source, node: cst.BinaryOperation, scaling: Scaling) -> tuple[cst.BaseExpression, str] | None:
    """(The sample in `node`, what `node` should be); None where it is no inverse, or the right one already."""
    leaves = list(_leaves(node))
    keyed = {id(leaf): {n.split(".")[-1] for n in _names(source, leaf)} for leaf in leaves}
    wanted = {n.split(".")[-1] for n in scaling.names}
    using = [leaf for leaf in leaves if keyed[id(leaf)] & wanted]
    rest = [leaf for leaf in leaves if not keyed[id(leaf)] & wanted and number(leaf) is None]
    if not using or len(rest) != 1 or _is_scaling(node):
        return None
    own = source.enclosing(node, cst.FunctionDef) is scaling.source.enclosing(scaling.node, cst.FunctionDef)
    if own and source.code(rest[0]) == scaling.source.code(scaling.sample):
        return None  # of the data themselves
    shift, scale = (_spelled(source, text, using, scaling) for text in scaling.texts)
    new = _inverted(source, rest[0], shift, scale)
    return None if new == source.code(node) else (rest[0], new)


def _inverted(source: Source, sample: cst.CSTNode, shift: str, scale: str) -> str:
    factor, term = tightness(cst.parse_expression(scale)), tightness(cst.parse_expression(shift))
    x = source.code(sample) if tightness(sample) >= PRODUCT else f"({source.code(sample)})"
    return f"{x} * {scale if factor >= PRODUCT else f'({scale})'} + {shift if term >= SUM else f'({shift})'}"


def _leaves(node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    if isinstance(node, cst.BinaryOperation) and _is_arithmetic(node):
        yield from _leaves(node.left)
        yield from _leaves(node.right)
    else:
        yield node


def _is_scaling(node: cst.BinaryOperation) -> bool:
    """`(x - mean) / std` itself, and what else divides by a spread: samples are never taken back so."""
    return isinstance(node.operator, cst.Divide)


def _spelled(source: Source, text: str, using: list[cst.BaseExpression], scaling: Scaling) -> str:
    """`text`, by the owner and within the call that names of the scaling have at the place: `self.mean`, `torch.tensor(mean)`."""
    used = [name for leaf in using for name in _names(source, leaf)]
    named = next(n for n in used if n.split(".")[-1] in {s.split(".")[-1] for s in scaling.names})
    old = next(s for s in scaling.names if s.split(".")[-1] == named.split(".")[-1])
    before, after = old.rpartition(".")[0], named.rpartition(".")[0]
    if before != after:
        text = text.replace(f"{before}.", f"{after}.") if before and after else text
    for leaf in using:
        inner = leaf.left if isinstance(leaf, cst.BinaryOperation) else leaf  # `torch.tensor(std) ** 2`
        if isinstance(inner, cst.Call) and [n for n in _names(source, inner) if n == named] == [named]:
            return source.code(inner).replace(named, text)
    return text


# ---------------------------------------------------------------- one more, where samples are made
def _added(sites: Sites, scalings: list[Scaling]) -> bool:
    done = set[int]()
    for decoding in known_decodings(sites, SNIPPET):
        spot = _sampled(sites, decoding.call)
        for scaling in scalings:
            if id(spot.node) not in done and _visible(scaling, spot):
                spot.source.replace(spot.node, f"({_inverted(spot.source, spot.node, *scaling.texts)})")
                done.add(id(spot.node))
    return bool(done)


def _sampled(sites: Sites, call: Spot) -> Spot:
    """The whole of the tensor that is made there: `.sample()` and the like behind the call, `.numpy()` left behind."""
    source, node = call.source, call.node
    while isinstance(owner := source.parent(node), cst.Attribute) and owner.value is node:
        method = source.parent(owner)
        if owner.attr.value in LEAVES or not (isinstance(method, cst.Call) and method.func is owner):
            break
        node = method
    return Spot(source, node)


def _visible(scaling: Scaling, spot: Spot) -> bool:
    """Are the names of the scaling those of the function in which samples are made, or of the whole file?"""
    if scaling.source is not spot.source:
        return False
    own = scaling.source.enclosing(scaling.node, cst.FunctionDef)
    return own is None or own is spot.source.enclosing(spot.node, cst.FunctionDef)
