"""The function at which examples mix gets the axis of features, its layer `batch_first=True`, or it is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.probes.rows import RowMixing
from whyvae.treat.operands import number
from whyvae.treat.program import built, called
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.watch.tape import Op, Ref

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

SNIPPET = """\
h = torch.softmax(h, dim=-1)  # along the features; recurrent and attention layers: batch_first=True
h = h.transpose(0, 1)  # [steps, batch, ...] to [batch, steps, ...]: reshape and view leave the order of the numbers
"""
BATCH_FIRST = {"RNN", "GRU", "LSTM", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer"}  # fmt: skip
# Functions that keep the shape they are given: the axis alone can be another. Position of the axis behind the tensor.
ALONG = {
    "softmax": 0, "log_softmax": 0, "cumsum": 0, "cumprod": 0, "flip": 0, "sort": 0, "softmin": 0, "normalize": 1,
    "logcumsumexp": 0,
}  # fmt: skip


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["way"]`: "axis" or "without"."""
    sites = Sites(case)
    rows = case.get(RowMixing)
    where = rows.at if rows is not None else None
    if rows is None or where is None:
        raise NoEdit("the line at which examples mix is not known", SNIPPET)
    ops = [
        op for op in case.subject.tape.ops
        if op.place and (op.place.file, op.place.line) == (where.file, where.line) and op.name.strip("_") == rows.op
    ]  # fmt: skip
    done = [_along(sites, op) if settings["way"] == "axis" else _without(sites, op) for op in ops[:1]]
    if not any(done):
        raise NoEdit("how examples mix there has no safe edit", SNIPPET, f"{where.file}:{where.line}")
    return sites.result()


def _along(sites: Sites, op: Op) -> bool:
    if _batch_first(sites, op):
        _others_like(sites, op)
        return True
    return _other_axis(sites, op) or _repeated_apart(sites, op) or _transposed(sites, op)


def _others_like(sites: Sites, op: Op) -> None:
    """The decoder's `nn.GRU` beside the encoder's, where it too is given [batch, steps, ...]."""
    first, batch = _maker(sites, op), sites.subject.batch
    made = {id(first.node)} if first is not None else set()
    for other in sites.subject.tape.ops:
        given: tuple[int, ...] = ()
        if other.name == op.name and other.reads:
            given = sites.subject.tape.slots[other.reads[0]].shape
        maker = _maker(sites, other) if len(given) > 1 and given[0] == batch != given[1] else None
        if maker is not None and id(maker.node) not in made:
            made.add(id(maker.node))
            _batch_first(sites, other)


def _maker(sites: Sites, op: Op) -> Spot | None:
    spot = called(sites, op)
    return built(spot) if spot is not None else None


def _repeated_apart(sites: Sites, op: Op) -> bool:
    """`z.repeat(steps, 1).view(batch, steps, -1)` -> `z.repeat_interleave(steps, 0).view(batch, steps, -1)`: an example's own
    copies stand together.
    """
    position = sites.subject.deps.producer.get(op.reads[0]) if op.name in {"view", "reshape"} and op.reads else None
    made = None if position is None else sites.subject.tape.ops[position]
    spot = sites.of(made) if made is not None and made.name in {"repeat", "tile"} else None
    call = None if spot is None else spot.node
    if made is None or spot is None or not isinstance(call, cst.Call) or not isinstance(call.func, cst.Attribute):
        return False
    slots = sites.subject.tape.slots
    before, copies, after = (slots[s].shape for s in (made.reads[0], made.outs[0], op.outs[0]))
    times = copies[0] // max(1, before[0])
    apart = copies[1:] == before[1:] and len(after) > len(before) and after[:2] == (before[0], times)
    if not apart or times < 2 or not call.args or call.args[0].keyword is not None:
        return False
    spot.source.replace(
        call, f"{spot.source.code(call.func.value)}.repeat_interleave({spot.source.code(call.args[0].value)}, 0)"
    )
    return True


def _transposed(sites: Sites, op: Op) -> bool:
    """`h.reshape(batch, steps, -1)` of [steps, batch, ...] -> `h.transpose(0, 1)`, and as many numbers of each as before."""
    spot = sites.of(op)
    call = spot.node if spot is not None else None
    if spot is None or op.name not in {"reshape", "view"} or not isinstance(call, cst.Call):
        return False
    slots, batch = sites.subject.tape.slots, int(sites.subject.batch)
    before, after = slots[op.reads[0]].shape, slots[op.outs[0]].shape
    inner = next((s for value, s in sites.operands(op) if isinstance(value, Ref)), None)
    if inner is None or len(before) < 2 or before[0] == before[1] or not _moves(before, after, batch):
        return False  # which axis holds the examples must be plain
    text = f"{inner.closed}.transpose(0, 1)"
    if (before[1], before[0], *before[2:]) != tuple(after):
        if not isinstance(call.func, cst.Attribute) or inner.node is not call.func.value:
            return False
        text += f".reshape({', '.join(spot.source.code(a) for a in call.args)})"
    spot.source.replace(call, text)
    return True


def _moves(before: tuple[int, ...], after: tuple[int, ...], batch: int) -> bool:
    """Are the examples on another of the first two axes after a change of shape that leaves the order of numbers?"""
    to_front = before[1] == batch and after[0] == batch
    return to_front or (before[0] == batch and after[:2] == (before[1], batch))


def _batch_first(sites: Sites, op: Op) -> bool:
    """`nn.GRU(8, 32)` -> `nn.GRU(8, 32, batch_first=True)`, where the data has its examples first."""
    maker = _maker(sites, op)
    if maker is None or not isinstance(maker.node, cst.Call) or not maker.node.args:
        return False
    names = {a.keyword.value: a for a in maker.node.args if a.keyword is not None}
    if dotted(maker.node.func).split(".")[-1] not in BATCH_FIRST:
        return False
    if "batch_first" in names:
        maker.source.replace(names["batch_first"].value, "True")
        return maker.source.code(names["batch_first"].value) == "False"
    last = maker.node.args[-1]
    maker.source.cut(last, last, ", batch_first=True")
    return True


def _other_axis(sites: Sites, op: Op) -> bool:
    """`softmax(h, dim=0)` -> `softmax(h, dim=-1)`; of a layer, where it is made: `nn.Softmax(dim=0)`."""
    spot = sites.of(op)
    name = op.name.strip("_").removesuffix("_")
    if spot is None or name not in ALONG or not isinstance(spot.node, cst.Call):
        return False
    layer = built(Spot(spot.source, spot.node.func))
    own = isinstance(spot.node.func, cst.Attribute) and not dotted(spot.node.func).startswith(("torch.", "F.", "nn."))
    for place, at in ((spot, ALONG[name] + (0 if own else 1)), *([(layer, 0)] if layer is not None else [])):
        assert isinstance(place.node, cst.Call)  # noqa: S101 - a layer is made by a call
        for i, argument in enumerate(place.node.args):
            keyword = argument.keyword.value if argument.keyword is not None else ""
            if (keyword in {"dim", "axis"} or (not keyword and i == at)) and number(argument.value) == 0:
                place.source.replace(argument.value, "-1")
                return True
    return False


def _without(sites: Sites, op: Op) -> bool:
    """`z = z - z.mean(0)` goes: what it changes was there before it. Looked for outwards, from the function to its callers."""
    for depth in range(len(op.frames)):
        spot = sites.of(op, depth)
        statement = spot.source.statement(spot.node) if spot is not None else None
        if spot is not None and depth == 0 and _is_value(spot, statement) and _reshapes(sites, op):
            return False  # what reads it needs its shape
        if spot is not None and statement is not None and _changes_its_own(spot.source, statement):
            spot.source.remove(statement)
            return True
    return False


def _is_value(spot: Spot, statement: cst.CSTNode | None) -> bool:
    return isinstance(statement, cst.Assign) and statement.value is spot.node


def _reshapes(sites: Sites, op: Op) -> bool:
    slots = sites.subject.tape.slots
    return bool(op.reads and op.outs) and slots[op.reads[0]].shape != slots[op.outs[0]].shape


def _changes_its_own(source: Source, statement: cst.CSTNode) -> bool:
    small = list(source.nodes((cst.Assign, cst.AugAssign), statement))
    if len(small) != 1:
        return False
    if isinstance(small[0], cst.AugAssign):
        return True
    names = [dotted(t.target) for t in small[0].targets]
    return len(names) == 1 and bool(names[0]) and any(
        dotted(n) == names[0] for n in source.nodes((cst.Name, cst.Attribute), small[0].value)
    )  # fmt: skip
