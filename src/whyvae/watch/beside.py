"""What a VAE need not have: other ways from data to output and from the latent to the loss, and predictions from the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from whyvae.watch.dependencies import COMPARING, LOSSES, PICKING, Dependencies, origin, unmixed
from whyvae.watch.meetings import Meeting, picked_from

SHOWN = (
    "the decoder is shown the data beside the latent (a skip connection, or teacher forcing): how much the latent carries "
    "is not audited"
)
FURTHER = (
    "the latent also reaches the loss by a further parametrised function (a second output, a critic, a learned prior): only "
    "the output that meets the data is audited"
)


def sides(deps: Dependencies, z: int, heads: tuple[int, ...]) -> tuple[frozenset[int], frozenset[int]]:
    """(ops, what they read): parametrised functions that predict labels or properties from mu or the log-variance."""
    sampled, above = deps.descendants([z]), deps.ancestors([z])
    code = {s for head in heads for s in unmixed(deps, head)} - sampled
    found = [
        op for op in deps.tape.ops
        if deps.is_layer(op) and not code.isdisjoint(op.reads)
        and above.isdisjoint(op.outs) and _meets_labels(deps, op.outs, above)
    ]  # fmt: skip
    return frozenset(op.index for op in found), frozenset(r for op in found for r in op.reads if r in code)


def beside(deps: Dependencies, latent: set[int], data: int, meetings: tuple[Meeting, ...]) -> Iterator[str]:
    """Ways from data to output, and from latent to loss, that a VAE does not have."""
    tape = deps.tape
    best = meetings[0]
    shown = {s for s in (data, best.target) if s is not None and s >= 0}
    masks = {s for op in tape.ops if op.name in COMPARING for s in op.outs}
    shown |= {origin(deps, s) for s in shown}
    masks = masks.union(*(_sizes(deps, s) for s in shown))
    outputs = {m.output for m in meetings if m == best or tape.ops[deps.position[m.op]].name in LOSSES}
    if shown & deps.ancestors(outputs, stop=latent | masks):
        yield SHOWN
    beside = deps.ancestors(tape.roots, stop={best.output}) - deps.ancestors([best.output])
    behind = deps.descendants(latent)
    part = deps.descendants([best.output])
    above = deps.ancestors(latent)
    further = [op for op in tape.ops if deps.is_layer(op)
               and not behind.isdisjoint(op.reads) and not beside.isdisjoint(op.outs) and part.isdisjoint(op.reads)]  # fmt: skip
    scored = (_meets_data, _meets_labels)
    if any(
        not _joins(deps, op.outs, best.output) and not any(f(deps, op.outs, above) for f in scored) for op in further
    ):
        yield FURTHER


def _meets_data(deps: Dependencies, slots: Iterable[int], above: set[int]) -> bool:
    """Is what `slots` make scored against what the encoder was shown (a further column of a table)? `above`: all z is made of."""
    mine = deps.descendants(slots)
    return any(
        not _sources(deps, r).isdisjoint(above)
        for op in deps.tape.ops if not mine.isdisjoint(op.reads) and not deps.is_mixing(op)
        for r in op.reads if r not in mine and r not in deps.encoded and r not in deps.parametric
    )  # fmt: skip


def _sources(deps: Dependencies, slot: int) -> set[int]:
    """`slot`, what it was made of alone, and the batch that this holds columns of (`value[..., :1]` in `log_prob`)."""
    found = {slot}
    while (back := origin(deps, slot)) not in found or (back := picked_from(deps, slot)) >= 0:
        found.add(back)
        slot = back
    return found


_COMPARED = LOSSES | {"sub", "sub_", "__sub__", "rsub", "__rsub__", "subtract"}


def _meets_labels(deps: Dependencies, slots: Iterable[int], above: set[int]) -> bool:
    """Is what `slots` make compared with numbers from outside that are neither data nor the same for all (a critic's)?"""
    mine = deps.descendants(slots)
    return any(
        r not in mine and r not in deps.encoded and r not in deps.parametric and _differ(deps, origin(deps, r))
        and {r, origin(deps, r)}.isdisjoint(above)
        for op in deps.tape.ops if op.name in _COMPARED and not mine.isdisjoint(op.reads)
        for r in op.reads
    )  # fmt: skip


def _differ(deps: Dependencies, slot: int) -> bool:
    """Does it, or what it was picked from, come from outside, with numbers that differ?"""
    position = deps.producer.get(slot)
    if position is not None and deps.tape.ops[position].name in PICKING:
        return _differ(deps, origin(deps, deps.tape.ops[position].reads[0]))
    value = deps.tape.slots[slot].value
    return deps.tape.slots[slot].external and value is not None and bool((value != value.flatten()[:1]).any())


def _sizes(deps: Dependencies, data: int) -> set[int]:
    """What the data give as one number an example: a total (library size), a norm, no copy of them."""
    slots = deps.tape.slots
    if data < 0 or not slots[data].shape or slots[data].numel < 2 * slots[data].shape[0]:
        return set()
    return {
        s
        for s in deps.descendants([data])
        if slots[s].numel == slots[data].shape[0] and slots[s].shape[:1] == slots[data].shape[:1]
    }


def _joins(deps: Dependencies, slots: Iterable[int], output: int) -> bool:
    """Do `slots` belong to the likelihood of `output`, as a decoded variance does, number by number?"""
    tape, mine, theirs = deps.tape, deps.descendants(slots), deps.descendants([output])
    for op in tape.ops:
        if not mine.isdisjoint(op.reads) and not theirs.isdisjoint(op.reads):
            return max(tape.slots[r].numel for r in op.reads if r in theirs) >= tape.slots[output].numel
    return False
