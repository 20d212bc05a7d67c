"""What is done to the decoder's output until it is saved or shown, tried on data as a perfect decoder would put it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.links import in_data_space
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import target_rows
from whyvae.probes.layout import scrambled
from whyvae.probes.lossy import WHOLE, Stage, Way, called, contrast, ends, levels, lost, outside, stages
from whyvae.probes.objective import audited_likelihood
from whyvae.probes.output import ACTIVATIONS, affine, before_arithmetic, in_units_of_data
from whyvae.probes.recipes import Recipe, recipe
from whyvae.probes.sampling import sound_calls
from whyvae.probes.sampling_mode import decoding
from whyvae.verdict import Where
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.step import Decoded, Shown
from whyvae.watch.tape import Op, Tape

_SQUASHING = {"sigmoid", "sigmoid_", "tanh", "tanh_", "softmax", "hardsigmoid"}


@dataclass(frozen=True)
class Picture:
    """One call that saves or shows new samples. `given` is the range of what is shown of real data, decoded perfectly (of
    the decoder's own output where that is not in the data's space), `allowed` what can be shown.
    """

    at: Where | None
    by: str  # what cuts, or shows
    cut: float  # what cutting off at `allowed` moves, squared, as a share of the variance of the numbers
    given: tuple[float, float]
    allowed: tuple[float, float]
    levels: float  # different whole numbers the picture can have; inf where it is not made of whole numbers
    wrapped: float  # share of the shown numbers that begin again at the other end of 0 to 255
    contrast: float  # range of the picture over that of the data; NaN where the data's is not [0, 1]
    left_out: str  # activation that training has behind the decoder, and sampling has not
    scrambled: str  # "", or how the order of the numbers is wrong


@dataclass(frozen=True)
class Showing(Probe):
    """Pictures of new samples, in the order in which they were made; the last of each line, and of each that calls it."""

    pictures: tuple[Picture, ...]

    @classmethod
    def measure(cls, subject: Any) -> Self:
        sound_calls(subject)
        found = _pictures(subject, subject.shown) or _pictures(subject, _held(subject))
        if not found:
            raise CannotMeasure(
                "does not apply: nothing was seen that saves or shows new samples and could lose numbers"
            )
        return cls(tuple(found))


def _pictures(subject: Any, shown: list[Shown]) -> list[Picture]:
    """Those whose way from the decoder is known."""
    return [p for s in shown if s.tape is not None and (p := _picture(subject, s)) is not None]


def _held(subject: Any) -> list[Shown]:
    """Bytes that the script keeps, where nothing it shows or saves is known to be samples: what else should they be?"""
    call = subject.decoded[-1] if subject.decoded else None
    if call is None:
        return []
    pictures = [(a, rows) for a in subject.arrays if a.whole and (rows := a.rows()) is not None]
    return [
        Shown(
            f"array.{a.name}", tuple(rows.shape), "uint8", float(rows.min()), float(rows.max()), call.place,
            rows.to(torch.uint8), {}, call.tape, a.slot, subject.left,
        )
        for a, rows in pictures
    ]  # fmt: skip


def _picture(subject: Any, shown: Shown) -> Picture | None:
    assert shown.tape is not None  # noqa: S101 - pictures without are not looked at
    way = way_to(subject, shown.tape, _candidates([c for c in subject.decoded if c.tape is shown.tape], shown))
    if way is None:
        return None
    try:
        fed, meant = _perfect(subject, way)
        ideal = stages(way, shown, {way.start: fed})
        drawn = stages(way, shown, {way.call.slot: entered(way.call)})
        striped = stages(way, shown, {way.start: _stripes(fed)})
    except ReplayFailed:
        return None
    order = scrambled(subject, way.call.tape, way.start, way.end, fed, shown, way.recipe)
    worst = max(ideal, key=lost, default=Stage(called(shown), torch.zeros(1), -math.inf, math.inf, False, None))
    if not ideal and not order:
        return None
    place = worst.place or shown.place
    return Picture(
        Where(*place) if place else None, worst.by, lost(worst) if ideal else 0.0, ends(worst.values),
        (worst.low, worst.high), min((levels(s) for s in ideal if s.whole), default=math.inf),
        max((outside(s, 1 / 255) for s in drawn if s.by == WHOLE), default=0.0),
        contrast(striped[-1], ends(meant)) if striped else math.nan, _left_out(subject, way), order,
    )  # fmt: skip


def _left_out(subject: Any, way: Way) -> str:
    """The activation that training has behind the decoder (the loss has it inside, for logits), and this way has not."""
    deps = Dependencies(way.call.tape)
    passed = deps.ancestors([way.end]) & deps.descendants([way.start])
    names = {op.name for op in way.call.tape.ops if not passed.isdisjoint(op.outs)}
    if way.missing:
        return "" if way.missing[0] in {n.rstrip("_") for n in names} else way.missing[0]
    logits = getattr(audited_likelihood(subject), "family", "").endswith("logits")
    return "sigmoid" if logits and names.isdisjoint(_SQUASHING) else ""


def way_to(subject: Any, tape: Tape, candidates: list[tuple[int, Recipe]]) -> Way | None:
    """From the last call of the decoder that one of these (slot, recipe) was made from, where that can be told."""
    deps = Dependencies(tape)
    calls = [c for c in subject.decoded if c.tape is tape]
    for end, how in candidates:
        above = deps.ancestors([end])
        for call in reversed(calls):
            if call.slot in above:
                start, missing = _output(subject, call)
                return Way(call, start, end, how, missing) if start in above else None
    return None


def _candidates(calls: list[Decoded], shown: Shown) -> list[tuple[int, Recipe]]:
    """(slot, recipe) of the tensors that the picture may be: itself, or what left torch, newest first."""
    if shown.slot >= 0:
        return [(shown.slot, Recipe())]
    if shown.value is None or not calls:
        return []
    value = shown.value if isinstance(shown.value, Tensor) else _tensor(shown.value)
    if value is None:
        return []
    pairs = [(left.slot, recipe(left.value, value)) for left in shown.left]
    return [(slot, how) for slot, how in pairs if how is not None]


def _tensor(array: Any) -> Tensor | None:
    try:
        return torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError):
        return None


def _output(subject: Any, call: Decoded) -> tuple[int, tuple[str, ...]]:
    """The slot that is, on the tape of the call, what is compared with the data in training; what lacks until there."""
    deps, tape = Dependencies(call.tape), call.tape
    last = _last_layer(subject, deps, decoding(call))
    slot = last.outs[0] if last is not None and last.outs else -1
    wanted = _tail(subject)
    while wanted:
        readers = [tape.ops[p] for p in deps.readers.get(slot, []) if tape.ops[p].outs]
        step = next((op for op in readers if op.name.rstrip("_") == wanted[0]), None)
        if step is None:
            break
        slot, wanted = step.outs[0], wanted[1:]
    return slot, tuple(name for name in wanted if name in _SQUASHING)


def _last_layer(subject: Any, deps: Dependencies, path: list[Op]) -> Op | None:
    """Of the `path` of a call, the parametrised function that is in training the last one above the output: of several heads
    side by side it need not be the last on the path.
    """
    behind, above = (
        subject.deps.descendants([subject.lineage.z]), subject.deps.ancestors([subject.lineage.output])
    )  # fmt: skip
    trained = [op for op in subject.tape.ops if not behind.isdisjoint(op.reads) and _weights(subject.deps, op)]
    heads = [op for op in trained if not above.isdisjoint(op.outs)]
    if not heads:
        return path[-1] if path else None
    wanted = _weights(subject.deps, heads[-1])
    alike = [op for op in trained if _weights(subject.deps, op) == wanted]
    own = [op for op in path if _weights(deps, op) == wanted]
    if len(own) == len(alike):
        return own[alike.index(heads[-1])]
    return own[0] if len(own) == 1 else path[-1] if path else None


def _weights(deps: Dependencies, op: Op) -> tuple[str, tuple[tuple[int, ...], ...]] | None:
    """The name of a parametrised function and the shapes of its parameters; None of any other."""
    shapes = tuple(deps.tape.slots[r].shape for r in op.reads if r in deps.parametric)
    return (op.name, shapes) if shapes else None


def _tail(subject: Any) -> list[str]:
    """Names of the elementwise functions between the decoder's last parametrised function and the output, in training."""
    deps, slot = subject.deps, subject.lineage.output
    names: list[str] = []
    while (position := deps.producer.get(slot)) is not None:
        op: Op = subject.tape.ops[position]
        if any(r in deps.parametric for r in op.reads) or not op.reads:
            break
        if op.name in ACTIVATIONS:
            names.insert(0, op.name.rstrip("_"))
        slot = op.reads[0]
    return names


def _arithmetic(subject: Any, way: Way, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """(shift, scale) by which training makes the output of what `way` starts from (`127.5 + 127.5 * y`), for one example of
    `shape` [n, ...]; 0 and 1 where nothing was seen to, or more than that.
    """
    none = torch.zeros(()).double(), torch.ones(()).double()
    slot = before_arithmetic(subject)
    if way.missing or slot == subject.lineage.output:
        return none
    try:
        found = affine(subject, slot)
    except (CannotMeasure, ReplayFailed):
        return none
    alike = found[0].shape[1:] == torch.Size(shape[1:]) and all(torch.equal(f[:1].expand_as(f), f) for f in found)
    return (found[0][:1], found[1][:1]) if alike else none


def _perfect(subject: Any, way: Way) -> tuple[Tensor, Tensor]:
    """(what to put out, what that means in the data's space), both in the shape of the output."""
    likelihood = audited_likelihood(subject)
    family = likelihood.family if likelihood is not None else ""
    of_classes = likelihood is not None and likelihood.of_classes
    tape, replay = way.call.tape, Replay(way.call.tape)
    shape = tape.slots[way.start].shape
    # a parameter of a density of another form, in units of its own
    linked = likelihood is not None and likelihood.link is not None and not in_units_of_data(subject)
    logits = family.endswith("logits") or family.startswith("poisson") or of_classes or linked
    rows = None if logits or way.missing else target_rows(subject)
    shift, scale = _arithmetic(subject, way, shape)
    if rows is not None and shape and shape[0] and rows.shape[1] == tape.slots[way.start].numel // shape[0]:
        picked = rows[torch.arange(shape[0]) % rows.shape[0]].reshape(shape)
        return (picked - shift) / scale, picked
    with torch.no_grad():
        own = replay.run([way.start], feed={way.call.slot: entered(way.call)}, training=False)[way.start]
    whole = likelihood is not None and own.dim() == likelihood.output.dim()
    if likelihood is not None and linked:
        return own, likelihood.points(shift + scale * own)
    meant = own if of_classes and not whole else in_data_space(family, own, likelihood.axis if likelihood else -1)
    for name in way.missing:
        meant = getattr(torch, name.rstrip("_"))(meant) if name.startswith(("sigmoid", "tanh")) else meant
    return own, meant


def _stripes(fed: Tensor) -> Tensor:
    """The smallest and the largest number in turn, so that every picture has the full contrast."""
    return torch.where(torch.arange(fed.numel()) % 2 == 0, fed.min(), fed.max()).reshape(fed.shape)


def entered(call: Decoded) -> Tensor:
    """What entered the decoder; rows that were not kept are the first ones again."""
    rows = call.tape.slots[call.slot].shape[:1]
    value = call.z.double()
    return value[torch.arange(rows[0]) % value.shape[0]] if rows and rows[0] != value.shape[0] else value
