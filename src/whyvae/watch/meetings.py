"""What the encoder is shown, and where what is decoded meets it in the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from whyvae.watch.dependencies import (
    COMPARING,
    GATHERING,
    LOSSES,
    PICKING,
    PRODUCTS,
    RECURRENT,
    Dependencies,
    origin,
    uses,
)
from whyvae.watch.tape import Place, Tape


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the output meets the data: `output` (z-dependent) and `target` are the slots that met in `op`.

    `features`: the target is what a network that is no part of the encoder makes of the data.
    """

    op: int
    output: int
    target: int | None
    place: Place | None
    features: bool = False


def data_of(deps: Dependencies, z: int) -> int:
    """The batch the encoder is shown: the largest non-parameter input of its parametrised functions,
    followed back through whatever was done to it one tensor at a time. The links of a graph's nodes are none.
    """
    tape = deps.tape
    above, links = deps.ancestors([z]), _links(deps)
    inputs = [
        r for op in tape.ops
        if (deps.is_mixing(op) or (op.name in GATHERING and any(r in deps.encoded for r in op.reads)))
        and not above.isdisjoint(op.outs)
        for r in (op.reads[:1] if op.name in RECURRENT else op.reads)  # a state that is carried along is no data
        if r not in deps.parametric and r not in deps.encoded and r not in links and not _blank(deps, r)
    ]  # fmt: skip
    roots = [s for s in dict.fromkeys(origin(deps, r) for r in inputs) if not _blank(deps, s)]
    parts = [
        s for s in dict.fromkeys(origin(deps, p) for r in inputs for p in _gathered(deps, r)) if not _blank(deps, s)
    ]
    shown = _of_one_batch(deps, _without_conditions(deps, parts, z) or roots)
    return max(shown, key=lambda s: tape.slots[s].numel, default=-1)


def _of_one_batch(deps: Dependencies, roots: list[int]) -> list[int]:
    """`roots`; in place of several columns of a batch, each of which enters a function of its own (an embedding for each
    question), that batch.
    """
    whole = {s: picked_from(deps, s) for s in roots}
    return list(dict.fromkeys(b if b >= 0 and list(whole.values()).count(b) > 1 else s for s, b in whole.items()))


def picked_from(deps: Dependencies, slot: int) -> int:
    """The batch that `slot` holds columns of; -1: it holds none."""
    position = deps.producer.get(slot)
    op = None if position is None else deps.tape.ops[position]
    if op is None or op.name not in PICKING or not op.reads:
        return -1
    slots, batch = deps.tape.slots, op.reads[0]
    alike = slots[batch].shape[:1] == slots[slot].shape[:1]  # rows are not picked
    return batch if alike and batch not in deps.parametric else -1


def further_outputs(deps: Dependencies, z: int, data: int, output: int) -> set[int]:
    """What else is decoded from z and compared with data, where the loss has several likelihoods."""
    latent = deps.descendants([z])
    decoded = deps.descendants([
        o for op in deps.tape.ops
        if deps.is_layer(op) and not latent.isdisjoint(op.reads)
        for o in (*op.outs, *op.writes)
    ])  # fmt: skip
    met = {m.output for m in find_meetings(deps, z, data) if m.target is not None} & decoded
    mine = _made_from(deps, output, decoded)  # log(p) and log(1 - p) are of one
    return {s for s in met if s != output and _made_from(deps, s, decoded) != mine}


_CUTTING = PICKING | {"split", "chunk", "unbind", "narrow", "select", "tensor_split", "split_with_sizes"}


def _made_from(deps: Dependencies, slot: int, decoded: set[int]) -> int:
    """What a layer, or a cut through what it made, puts out on the way to `slot`."""
    while (position := deps.producer.get(slot)) is not None:
        op = deps.tape.ops[position]
        sources = [r for r in op.reads if r in decoded]
        if deps.is_mixing(op) or op.name in _CUTTING or not sources:
            break
        slot = sources[0]
    return slot


def _links(deps: Dependencies) -> set[int]:
    """Square matrices by which what was encoded is multiplied from the left: each row is made of those it is linked with."""
    slots = deps.tape.slots
    products = [op for op in deps.tape.ops if op.name in PRODUCTS and len(op.reads) > 1]
    return {
        op.reads[0] for op in products
        if op.reads[1] in deps.encoded and op.reads[0] not in deps.encoded | deps.parametric
        and slots[op.reads[0]].shape[-2:] == (slots[op.reads[1]].shape[-2:-1] * 2)
    }  # fmt: skip


def _gathered(deps: Dependencies, slot: int) -> list[int]:
    """What was put side by side to make `slot`; itself where nothing was."""
    position = deps.producer.get(slot)
    if position is None or deps.tape.ops[position].name not in GATHERING:
        return [slot]
    reads = [r for r in deps.tape.ops[position].reads if r not in deps.parametric]
    return [p for r in reads for p in _gathered(deps, r)] or [slot]


def _without_conditions(deps: Dependencies, roots: list[int], z: int) -> list[int]:
    """Those of `roots` that the output is compared with, and that the decoder is not shown beside z, where it is shown others."""
    if len(roots) < 2:
        return []
    tape, behind = deps.tape, deps.descendants([z])
    entering = [op for op in tape.ops if deps.is_mixing(op) and not behind.isdisjoint(op.reads)]
    shown = deps.ancestors([r for op in entering for r in op.reads], stop={z})
    decoded = deps.descendants([o for op in entering for o in op.outs])

    def met(root: int) -> bool:
        mine = deps.descendants([root]) - deps.encoded
        return any(
            not deps.is_mixing(op) and not decoded.isdisjoint(op.reads) and not mine.isdisjoint(op.reads)
            for op in tape.ops
        )

    return [r for r in roots if r not in shown and met(r)] if not shown.isdisjoint(roots) else []


def _blank(deps: Dependencies, slot: int) -> bool:
    """Nothing but zeros from outside, or picked from such: the first state of a recurrent network."""
    position = deps.producer.get(slot)
    if position is not None:
        op = deps.tape.ops[position]
        sources = op.reads if op.name in GATHERING else op.reads[:1]
        return op.name in PICKING and bool(sources) and all(_blank(deps, s) for s in sources)
    value = deps.tape.slots[slot].value
    return value is not None and value.is_floating_point() and not bool(value.detach().any())


def find_meetings(deps: Dependencies, z: int, data: int) -> tuple[Meeting, ...]:
    """Candidates for (output, target), best first: loss functions and targets made from the encoder's data first."""
    behind = deps.descendants([z])
    if deps.formula:
        return _of_a_formula(deps, z, data, behind)
    mixed = [s for op in deps.tape.ops if deps.is_mixing(op) and not behind.isdisjoint(op.reads) for s in op.outs]
    return meetings_among(deps, deps.descendants(mixed), data, deps.ancestors([z]))


def _of_a_formula(deps: Dependencies, z: int, data: int, behind: set[int]) -> tuple[Meeting, ...]:
    """With the encoder's own data, of outputs that are not z's own numbers: those may be an output with noise on it."""
    slots = deps.tape.slots
    regular = deps.ancestors(deps.tape.roots, stop={z}) - behind
    if not any(s in deps.encoded and slots[s].numel > 1 for s in regular):
        return ()  # nothing of the loss asks anything of the code
    from_data = deps.descendants([data])
    return tuple(
        m for m in meetings_among(deps, behind - {z}, data, deps.ancestors([z]))
        if m.target in from_data and m.target not in deps.encoded and slots[m.output].numel != slots[z].numel
    )  # fmt: skip


def meets_data(deps: Dependencies, z: int) -> bool:
    """Is what is decoded from z compared with data, not only with what an encoder made of them (a lower latent's mean)?"""
    found = find_meetings(deps, z, data_of(deps, z))
    return bool(found) and found[0].target not in deps.encoded


def meetings_among(
    deps: Dependencies, decoded: set[int], data: int, above: set[int] | None = None
) -> tuple[Meeting, ...]:
    tape = deps.tape
    from_data = deps.descendants([data]) if data >= 0 else set()
    storage = tape.slots[data].storage if data >= 0 else None
    later_mixed = deps.ancestors([
        r for op in tape.ops if deps.is_layer(op) for r in op.reads
    ])  # fmt: skip
    found: list[tuple[tuple[int, ...], Meeting]] = []
    scored = False  # is there a loss function of an output and something of the data?
    for op in tape.ops:
        outputs = [r for r in uses(op) if r in decoded]
        if not outputs or deps.is_mixing(op) or op.name in GATHERING | COMPARING | _NORMS:
            continue
        targets = [r for r in uses(op) if r not in decoded and r not in deps.parametric
                   and (r not in deps.encoded or r in from_data) and _like(tape, outputs[0], r)]  # fmt: skip
        if not targets or any(s in later_mixed for s in op.outs):
            continue
        target = targets[0]
        related = target in from_data or tape.slots[target].storage == storage
        fresh = not tape.slots[target].parameter
        same = tape.slots[target].numel == tape.slots[outputs[0]].numel
        features = above is not None and target in deps.encoded and target not in above
        # a level of a hierarchy meets what the encoder made of the data; its output meets the data itself
        kin = (features, not related, target in deps.encoded)
        scored |= op.name in LOSSES and related and not features
        meeting = Meeting(op.index, outputs[0], target, op.place, features)
        found.append(((*kin, 0, not fresh, op.name not in LOSSES and not same, op.index), meeting))
        # after those of their kin, before what meets tensors that are not the data's: a hierarchy has many of these
        found += [((*kin, 1, i, 0, op.index), e) for i, e in enumerate(_earlier(deps, meeting, decoded))]
    if scored:  # what else meets an output is no data: a critic's verdict on it, a label
        found = [(rank, meeting) for rank, meeting in found if not rank[1]]
    return tuple(m for _, m in sorted(found, key=lambda pair: pair[0]))


def _earlier(deps: Dependencies, meeting: Meeting, decoded: set[int]) -> Iterator[Meeting]:
    """`meeting` with an output further up: a loss written out, as x log y + (1 - x) log(1 - y), uses y twice."""
    slot = meeting.output
    while (position := deps.producer.get(slot)) is not None:
        op = deps.tape.ops[position]
        sources = {r for r in op.reads if r in decoded}
        if deps.is_mixing(op) or len(sources) != 1:
            return
        slot = sources.pop()
        if deps.tape.slots[slot].shape != deps.tape.slots[meeting.output].shape:
            return
        if len(deps.readers.get(slot, [])) > 1:
            yield replace(meeting, output=slot)


_NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}


def _like(tape: Tape, output: int, target: int) -> bool:
    """Could `target` be what `output` is compared with? (Class indices have one axis less.)"""
    out, tgt = tape.slots[output], tape.slots[target]
    if tgt.numel <= 1 or len(tgt.shape) == 0:
        return False
    if out.numel == tgt.numel:
        return True
    if not tgt.dtype.is_floating_point:
        return out.numel % tgt.numel == 0
    try:
        torch.broadcast_shapes(out.shape, tgt.shape)
    except RuntimeError:
        return False
    return tgt.numel >= out.numel or tgt.numel * out.shape[0] >= out.numel
