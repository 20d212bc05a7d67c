"""What is what on a tape: noise -> sigma, mu, z -> output -> loss, found by what the tensors do.

A VAE is recognised by its behaviour: noise that nobody differentiates is scaled and shifted by encoded
tensors (`z = A * eps + B`), feeds parametrised functions, and what they make meets the data in the loss.
Nothing depends on names, classes or the spelling of the arithmetic: whether a tensor is `A * eps + B` is
settled by running the tape at several values of `eps`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from whyvae.watch.beside import FURTHER, beside, sides
from whyvae.watch.dependencies import Dependencies, read_by_a_layer, unmixed
from whyvae.watch.draws import (
    ABOVE,
    DIAGONAL,
    GAUSSIAN,
    NOT_GAUSSIAN,
    Draw,
    choose,
    drawn,
    moved,
    sampled,
    sane_parameters,
    small_parameters,
)
from whyvae.watch.meetings import Meeting, data_of, find_meetings, meetings_among, meets_data
from whyvae.watch.replay import Replay
from whyvae.watch.tape import Tape


class NoVAE(Exception):
    """This tape is not a VAE's; the message says what was looked for and not found."""


@dataclass(slots=True)
class Lineage:
    """The roles of a tape's slots. Slots are -1 when the role was not found."""

    tape: Tape
    noise_op: int  # index in tape.ops of the draw, -1: noise from outside torch (numpy)
    eps: int  # the N(0, 1) noise of z = A * eps + B; -1: there is none, or z is drawn otherwise
    z: int
    heads: tuple[int, ...]  # outputs of the parametrised functions nearest to mu and sigma
    data: int  # what the encoder is shown
    meetings: tuple[Meeting, ...]  # best first
    decoder_ops: frozenset[int]  # Op.index of what lies between z and the decoder's parametrised functions
    posterior: str  # "diagonal Gaussian", or what it is instead
    latents: int = 0
    notes: list[str] = field(default_factory=list)  # what cannot be audited, in sentences
    chain: tuple[int, ...] = ()  # all slots that are A * eps + B
    candidates: tuple[int, ...] = ()  # z of every latent draw found
    side_ops: frozenset[int] = frozenset()  # Op.index of functions that predict labels from mu or the log-variance,
    side_inputs: frozenset[int] = frozenset()  # and what they are shown
    part: bool = False  # `meetings` are those of one likelihood of several, not the first

    @property
    def meeting(self) -> Meeting:
        return self.meetings[0]

    @property
    def output(self) -> int:
        return self.meeting.output

    @property
    def target(self) -> int | None:
        return self.meeting.target


def find(tape: Tape) -> Lineage:
    """The lineage of a recorded step.

    Raises:
        NoVAE: no latent draw and no Gaussian regulariser was found.
    """
    deps = Dependencies(tape)
    draws = drawn(deps, Replay(tape, sane_parameters(tape)))
    if not any(d.shift for d in draws):  # a sigma that has come to 0 hides the noise it scales, beside a mean at least
        draws = drawn(deps, Replay(tape, small_parameters(tape))) or draws
    draws = draws or sampled(deps)
    if not draws:
        deps = Dependencies(tape, formula=True)
        draws = [d for d in drawn(deps, Replay(tape, sane_parameters(tape))) if d.shift and meets_data(deps, d.z)]
    if not draws:
        raise NoVAE("no random draw is scaled and shifted by an encoder and decoded")
    draw, notes = choose(deps, draws)
    notes = moved(deps, draw) or notes
    return _complete(deps, draw, notes, tuple(d.z for d in draws))


def find_as(tape: Tape, like: Lineage) -> Lineage:
    """The lineage of another step; where `like` is of one likelihood of several, of that one.

    Raises:
        NoVAE: as `find`, or that likelihood is not met there.
    """
    lineage = find(tape)
    if not like.part:
        return lineage
    same = tuple(m for m in lineage.meetings if (m.op, m.output) == (like.meeting.op, like.output))
    if not same:
        raise NoVAE("the likelihood that is judged was not found in another step")
    return replace(lineage, meetings=same, part=True)


def find_deterministic(tape: Tape) -> Lineage:
    """The lineage of a step that draws no noise but still regularises a code as a VAE does.

    A code is a VAE's when the loss has a part that reaches the encoder without passing the output, and that part
    takes an exponential or a logarithm of what the encoder made (a Gaussian KL needs one; a norm does not).

    Raises:
        NoVAE: it is an autoencoder, or no autoencoder at all.
    """
    deps = Dependencies(tape)
    mixed = [s for op in tape.ops if deps.is_layer(op) for s in op.outs]
    meetings = meetings_among(deps, set(deps.descendants(mixed)), -1)
    for meeting in meetings:
        above = deps.ancestors([meeting.output])
        beside = deps.ancestors(tape.roots, stop={meeting.output})
        bent = [
            op for op in tape.ops
            if any(o in beside for o in op.outs) and op.name in _CURVED and any(r in deps.encoded for r in op.reads)
            and meeting.output not in deps.ancestors(op.reads)
        ]  # fmt: skip
        heads = _shared_heads(deps, [r for op in bent for r in op.reads], above)
        z = _code_slot(deps, heads, above)
        if bent and heads and z >= 0:
            data = data_of(deps, z)
            best = tuple(m for m in find_meetings(deps, z, data)) or (meeting,)
            latents = tape.slots[z].numel // max(1, tape.slots[z].shape[0])
            return Lineage(
                tape, -1, -1, z, heads, data, best, _decoder_ops(deps, z, best[0].output), "deterministic", latents
            )
    raise NoVAE("no random draw is scaled and shifted by an encoder and decoded, and nothing regularises a code")


_CURVED = {"exp", "exp_", "log", "log_", "log1p", "expm1", "softplus"}


def _shared_heads(deps: Dependencies, slots: list[int], above: set[int]) -> tuple[int, ...]:
    """Nearest parametrised outputs above `slots`, with those of the same encoder layer that feed the decoder."""
    found: set[int] = set()
    for slot in slots:
        todo, seen = [slot], {slot}
        while todo:
            position = deps.producer.get(todo.pop())
            if position is None:
                continue
            op = deps.tape.ops[position]
            if deps.is_layer(op):
                found.update(op.outs)
                continue
            new = [r for r in op.reads if r not in seen]
            seen.update(new)
            todo.extend(new)
    if not found:
        return ()
    inputs = {deps.tape.ops[deps.producer[h]].reads[0] for h in found}
    sisters = {
        o for op in deps.tape.ops if deps.is_mixing(op) and op.reads and op.reads[0] in inputs for o in op.outs
    }  # fmt: skip
    return tuple(sorted(s for s in found | (sisters & above)))


def _code_slot(deps: Dependencies, heads: tuple[int, ...], above: set[int]) -> int:
    """What the heads hand to the decoder: the last unmixed tensor from them that a decoder's function reads."""
    reached: list[int] = []
    for head in heads:
        reached += [s for s in unmixed(deps, head) if s in above]
    read = read_by_a_layer(deps, reached)
    return read[0] if read else -1


def _complete(deps: Dependencies, draw: Draw, notes: list[str], candidates: tuple[int, ...]) -> Lineage:
    tape = deps.tape
    heads = _heads(deps, draw)
    data = data_of(deps, draw.z)
    meetings = find_meetings(deps, draw.z, data)
    if not meetings:
        notes.append("no tensor made from the latent meets the data: the reconstruction term was not found")
        meetings = (Meeting(-1, -1, None, None),)
    elif draw.kind in GAUSSIAN:
        further = beside(deps, {draw.z, *draw.chain, *candidates}, data, meetings)
        notes += [note for note in further if note != FURTHER or ABOVE not in notes]  # it is the latents above
    shape = tape.slots[draw.z].shape
    latents = 1
    for size in shape[_batch_axis(tape, draw.z, data) + 1 :]:
        latents *= size
    latents = _unrepeated(deps, draw, heads, latents)
    if tape.autocast:
        notes.append("")
    decoder_ops = _decoder_ops(deps, draw.z, meetings[0].output)
    return Lineage(
        tape, draw.noise_op, -1 if draw.kind.startswith(NOT_GAUSSIAN) else draw.eps, draw.z, heads, data, meetings,
        decoder_ops, draw.kind, latents,
        [n for n in notes if n], draw.chain, candidates, *sides(deps, draw.z, heads),
    )  # fmt: skip


def _unrepeated(deps: Dependencies, draw: Draw, heads: tuple[int, ...], latents: int) -> int:
    """Units of one sample where each example draws several (z holds more numbers than any head gives)."""
    slots = deps.tape.slots
    most = max((slots[h].numel // max(1, *slots[h].shape[:1]) for h in heads), default=0)
    if draw.kind != DIAGONAL or not most or latents <= most or latents % most:
        return latents
    return most // 2 if len(heads) == 1 and draw.both and not latents % (most // 2 or 1) else most


def _batch_axis(tape: Tape, z: int, data: int) -> int:
    """The axis of z that counts examples: the first, or the one as long as the data's first."""
    shape = tape.slots[z].shape
    if data >= 0 and tape.slots[data].shape and len(shape) > 2:
        size = tape.slots[data].shape[0]
        if shape[0] != size and shape[1] == size:
            return 1
    return 0 if len(shape) > 1 else -1


def _decoder_ops(deps: Dependencies, z: int, output: int) -> frozenset[int]:
    """Ops (by `Op.index`) on the way from z to (and including) the parametrised functions behind it; a formula's, to the output."""
    tape = deps.tape
    behind = deps.descendants([z])
    mixers = [op for op in tape.ops if deps.is_mixing(op) and not behind.isdisjoint(op.reads)]
    # without any parameter it is an inner product z z'
    mixers = [op for op in mixers if any(r in deps.parametric for r in op.reads)] or mixers
    before = deps.ancestors([output] if deps.formula else [s for op in mixers for s in op.outs])
    return frozenset(
        op.index for op in tape.ops
        if not behind.isdisjoint(op.reads) and not before.isdisjoint((*op.outs, *op.writes))
    )  # fmt: skip


def _heads(deps: Dependencies, draw: Draw) -> tuple[int, ...]:
    """Outputs of the nearest parametrised functions above z (where mu and log-variance come from)."""
    tape = deps.tape
    found: list[int] = []
    todo, seen = [draw.z], {draw.z}
    while todo:
        position = deps.producer.get(todo.pop())
        if position is None:
            continue
        op = tape.ops[position]
        if deps.is_layer(op):
            found.extend(s for s in op.outs if s not in found)
            continue
        for read in op.reads:
            if read not in seen and read != draw.eps:
                seen.add(read)
                todo.append(read)
    return tuple(sorted(s for s in found if s in deps.ancestors([draw.z])))
