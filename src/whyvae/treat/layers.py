"""The layers of the recorded step, where they are built, and the numbers that set their widths."""

from __future__ import annotations

import math

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.literals import DEEPEST, literals, written
from whyvae.treat.operands import number
from whyvae.treat.program import written_out
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import dotted
from whyvae.watch.tape import Op

NORMS = {"batch_norm": 0, "layer_norm": 0, "instance_norm": 0, "group_norm": 1}
CONVOLUTIONS = {"conv1d": "Conv1d", "conv2d": "Conv2d", "conv_transpose1d": "ConvTranspose1d",
                "conv_transpose2d": "ConvTranspose2d"}  # fmt: skip
RESHAPING = {"view", "reshape", "unflatten"}
BUILDERS = {**CONVOLUTIONS, "unflatten": "Unflatten", "linear": "Linear", "batch_norm": "BatchNorm", "layer_norm": "LayerNorm", "group_norm": "GroupNorm",
            "instance_norm": "InstanceNorm"}  # fmt: skip


class Layers:
    def __init__(self, sites: Sites) -> None:
        self.sites, self.subject = sites, sites.subject
        self.deps, self.tape = sites.subject.deps, sites.subject.tape

    # ------------------------------------------------------------------ which
    def of_part(self, part: str) -> list[Op]:
        """The parametrised functions of the encoder (without the heads) or the decoder (without the last), in order."""
        ops = self.all_of_part(part)
        read = {r for op in ops for r in op.reads}
        return [op for op in ops if not self.deps.descendants(op.outs).isdisjoint(read)]

    def all_of_part(self, part: str) -> list[Op]:
        """The same with the heads, or the last."""
        lineage = self.subject.lineage
        if part == "encoder":
            start = [lineage.data] if lineage.data >= 0 else []
            between = self.deps.descendants(start) & self.deps.ancestors(lineage.heads)
        else:
            between = self.deps.descendants([lineage.z]) & self.deps.ancestors([lineage.output])
        return [op for op in self.tape.ops if self.deps.is_layer(op) and not between.isdisjoint(op.outs)]

    def next(self, op: Op) -> list[Op]:
        """The layers, norms and reshapings that read what a layer made, up to the next layers."""
        found: list[Op] = []
        todo, seen = list(op.outs), set(op.outs)
        while todo:
            for position in self.deps.readers.get(todo.pop(), []):
                reader = self.tape.ops[position]
                layer = self.deps.is_layer(reader)
                if layer or reader.name in NORMS or reader.name in RESHAPING:
                    found.append(reader)
                if not layer:
                    todo += [o for o in (*reader.outs, *reader.writes) if o not in seen]
                    seen.update((*reader.outs, *reader.writes))
        return list({id(o): o for o in found}.values())

    def width(self, op: Op) -> int:
        """Numbers of an example (linear) or channels (convolution) that a layer makes."""
        shape = self.tape.slots[op.outs[0]].shape
        return int(shape[1 if op.name in CONVOLUTIONS else -1]) if shape else 1

    def reads(self, op: Op) -> int:
        """Numbers or channels that a layer or norm reads."""
        shape = self.tape.slots[op.reads[0]].shape
        return int(shape[-1] if op.name in {"linear", "layer_norm"} else shape[1])

    # ------------------------------------------------------------------ where they are built
    def builder(self, op: Op) -> Spot:
        """`nn.Linear(...)` of a function `linear` on the tape.

        Raises:
            NoEdit: it was not found, or is not built by name.
        """
        name, spot = BUILDERS.get(op.name, ""), self.sites.of(op)
        if not name or spot is None or not isinstance(spot.node, cst.Call):
            raise NoEdit(f"a `{op.name}` is not built as a layer of its own")
        made = written_out(Spot(spot.source, spot.node.func))
        if made is None:
            raise NoEdit(f"where `{spot.source.code(spot.node.func)}` is built was not found")
        if _kind(made.node).startswith(name):
            return made
        mine = [o for o in self.tape.ops if o.name == op.name and o.frames[:1] == op.frames[:1]]
        found = [c for c in made.source.nodes(cst.Call, made.node) if _kind(c).startswith(name)]
        if len(found) != len(mine):
            raise NoEdit(f"the layers in `{spot.source.code(spot.node.func)}` are not written out one by one")
        return Spot(made.source, found[mine.index(op)])

    # ------------------------------------------------------------------ the numbers
    def outputs(self, op: Op) -> Spot:
        """The expression that sets how many numbers a linear layer makes."""
        return self._argument(self.builder(op), 1, "out_channels" if op.name in CONVOLUTIONS else "out_features")

    def inputs(self, op: Op) -> Spot:
        """The expression that sets how many numbers a layer (or norm) reads."""
        if op.name in NORMS:
            key = {"layer_norm": "normalized_shape", "group_norm": "num_channels"}.get(op.name, "num_features")
            return self._argument(self.builder(op), NORMS[op.name], key)
        return self._argument(self.builder(op), 0, "in_channels" if op.name in CONVOLUTIONS else "in_features")

    def channels(self, op: Op) -> Spot | None:
        """The number of channels (or of numbers) a reshaping is told; None where it works that out itself."""
        size = self.tape.slots[op.outs[0]].shape[1]
        for value, spot in self.sites.operands(op):
            if isinstance(spot.node, cst.Tuple) and isinstance(value, tuple) and size in value:
                return Spot(spot.source, spot.node.elements[value.index(size)].value)
            if isinstance(value, int) and value == size and value > 1:
                return spot
        if op.name == "unflatten":
            sizes = self._argument(self.builder(op), 1, "unflattened_size")
            if isinstance(sizes.node, cst.Tuple):
                return Spot(sizes.source, sizes.node.elements[0].value)
        return None

    def _argument(self, made: Spot, position: int, key: str) -> Spot:
        assert isinstance(made.node, cst.Call)  # noqa: S101 - a builder is a call
        named = next((a.value for a in made.node.args if a.keyword is not None and a.keyword.value == key), None)
        plain = [a.value for a in made.node.args if a.keyword is None and not a.star]
        if named is None and len(plain) <= position:
            raise NoEdit("a layer's width is not written as an argument")
        return Spot(made.source, named if named is not None else plain[position])

    def set(self, spot: Spot, old: int, new: int, *, at_least: bool = False) -> None:
        """Collects the edit that makes an expression of value `old` give `new`; `at_least`: or more, where it is computed."""
        at = resolved(spot, float(old))
        computed = _computed(spot) if at is None and at_least else None
        if computed is not None:
            computed.source.replace(computed.node, f"max({new}, {computed.code})")
            return
        if at is None:
            raise NoEdit(f"the number {old} is computed, not written down", where=spot.where)
        literal, share = at
        node, value = literal.node, new / share
        while isinstance(node, cst.BinaryOperation):  # `32 * 2 * 2`: the channels stand first
            value *= (number(node.left) or 0.0) / (number(node) or math.nan)
            node = node.left
        if value != round(value):
            raise NoEdit(f"the number {old} is computed, not written down", where=spot.where)
        literal.source.replace(node, written(value))


def resolved(spot: Spot, value: float) -> tuple[Spot, float] | None:
    """(the literal behind an expression, by what it is multiplied): `2 * latents` has its value from `latents`."""
    node = spot.node
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply) and number(node) is None:
        for factor, rest in ((node.left, node.right), (node.right, node.left)):
            times = number(factor)
            if times:
                found = resolved(Spot(spot.source, rest), value / times)
                return None if found is None else (found[0], found[1] * times)
    at = literals(spot, value)
    return (at[0], 1.0) if len(at) == 1 else None


def _computed(spot: Spot, depth: int = 0) -> Spot | None:
    """`max(2, hidden // reduction)`: the one expression that an expression has its value from."""
    if isinstance(spot.node, cst.Call | cst.BinaryOperation):
        return spot
    found = list(bindings(spot)) if depth <= DEEPEST else []
    return _computed(found[0], depth + 1) if len(found) == 1 else None


def by_arguments(made: Spot, width: int) -> list[Spot]:
    """In `mlp(100, 2, 8)` or `mlp([100, 2, 8])`, a helper of the user's: the numbers between first and last that give a
    width.
    """
    assert isinstance(made.node, cst.Call)  # noqa: S101 - a builder is a call
    given = [e for a in made.node.args if not a.star for e in elements(a.value)]
    between = [Spot(made.source, g) for g in given[1:-1]]
    return [s for s in between if resolved(s, float(width)) is not None]


def in_row(made: Spot) -> bool:
    """Is a layer written in a `Sequential(...)`?"""
    return _kind(made.source.enclosing(made.node, cst.Call)) == "Sequential"


def _kind(node: cst.CSTNode) -> str:
    return dotted(node.func).split(".")[-1] if isinstance(node, cst.Call) else ""
