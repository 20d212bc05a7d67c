"""What is what on a tape: noise -> sigma, mu, z -> output -> loss, found by what the tensors do.

A VAE is recognised by its behaviour: noise that nobody differentiates is scaled and shifted by encoded
tensors (`z = A * eps + B`), feeds parametrised functions, and what they make meets the data in the loss.
Nothing depends on names, classes or the spelling of the arithmetic: whether a tensor is `A * eps + B` is
settled by running the tape at several values of `eps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.tape import Op, Place, Ref, Tape

MIXING = {
    "linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "addbmm",
    "einsum", "tensordot", "inner", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "embedding", "embedding_bag", "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell",
    "rnn_tanh_cell", "rnn_relu_cell", "multi_head_attention_forward", "scaled_dot_product_attention", "chain_matmul",
    "multi_dot", "dot", "kron", "sparse.mm", "spmm", "smm",
}  # fmt: skip
LOSSES = {
    "mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "l1_loss", "smooth_l1_loss", "huber_loss",
    "cross_entropy", "nll_loss", "gaussian_nll_loss", "poisson_nll_loss", "kl_div", "cosine_similarity", "dist",
    "soft_margin_loss", "pairwise_distance", "cosine_embedding_loss", "hinge_embedding_loss",
}  # fmt: skip
_SHAPING = {
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "expand", "expand_as", "view_as", "contiguous", "to", "float",
    "double", "half", "type", "type_as", "clone", "permute", "transpose", "movedim", "unflatten", "cpu", "cuda", "detach",
    "T", "mT", "__get__", "bfloat16", "swapaxes", "reshape_as", "repeat", "tile", "alias", "data",
}  # fmt: skip
_GATHERING = {
    "cat",
    "concat",
    "concatenate",
    "stack",
    "hstack",
    "vstack",
    "dstack",
    "column_stack",
    "pad",
}
_PICKING = {
    "__getitem__",
    "index_select",
    "take",
    "gather",
    "stack",
    "cat",
    "embedding",
    "take_along_dim",
}
_COMPARING = {
    "__eq__",
    "__ne__",
    "__lt__",
    "__gt__",
    "__le__",
    "__ge__",
    "eq",
    "ne",
    "lt",
    "gt",
    "le",
    "ge",
    "isnan",
}


SHAPED_LIKE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "randn_like", "rand_like", "randint_like", "new_zeros",
    "new_ones", "new_full", "new_empty", "new_tensor", "new",
}  # fmt: skip
_LIKE_ANOTHER = {"view_as", "reshape_as", "expand_as", "type_as"}


class NoVAE(Exception):
    """This tape is not a VAE's; the message says what was looked for and not found."""


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


NOT_GAUSSIAN = "not Gaussian"  # the posterior of a sample that is no A * eps + B, begins so


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

    @property
    def meeting(self) -> Meeting:
        return self.meetings[0]

    @property
    def output(self) -> int:
        return self.meeting.output

    @property
    def target(self) -> int | None:
        return self.meeting.target


class Dependencies:
    """Which slots of a tape are made from which: noise, data, parameters."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.producer = tape.producers()
        self.position = {op.index: i for i, op in enumerate(tape.ops)}

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for position, op in enumerate(self.tape.ops):
            for slot in op.reads:
                found.setdefault(slot, []).append(position)
        return found

    def descendants(self, start: Iterable[int], *, through: set[int] | None = None) -> set[int]:
        """Slots made from `start` (included); `through` limits the ops (positions) that may be passed."""
        reached = set(start)
        for position, op in enumerate(self.tape.ops):
            if (through is None or position in through) and not reached.isdisjoint(_uses(op)):
                reached.update(op.outs)
                reached.update(op.writes)
        return reached

    def ancestors(self, end: Iterable[int], *, stop: set[int] | None = None) -> set[int]:
        """Slots from which `end` (included) is made; not beyond the slots in `stop`."""
        reached = set(end)
        todo = list(reached)
        while todo:
            slot = todo.pop()
            if stop and slot in stop:
                continue
            position = self.producer.get(slot)
            if position is None:
                continue
            for read in _uses(self.tape.ops[position]):
                if read not in reached:
                    reached.add(read)
                    todo.append(read)
        return reached

    @cached_property
    def parametric(self) -> set[int]:
        """Slots made of parameters alone (the parameters, normalised or masked weights...)."""
        made = {s.index for s in self.tape.slots if s.trainable or (s.external and s.parameter)}
        for op in self.tape.ops:
            if op.reads and not op.random and all(r in made for r in op.reads):
                made.update(op.outs)
        return made

    def is_mixing(self, op: Op) -> bool:
        """A parametrised function that mixes elements: linear, convolution, recurrence, attention."""
        if op.name in MIXING:
            return True
        custom = op.name == "apply"
        return custom and any(r in self.parametric for r in op.reads)

    @cached_property
    def moved(self) -> set[int]:
        """Slots made from gradients that were taken inside the step (Hamiltonian or Langevin moves, penalties)."""
        made = [o for op in self.tape.ops if op.name == "grad" for o in op.outs]
        return self.descendants(made) if made else set()

    @cached_property
    def encoded(self) -> set[int]:
        """Slots behind at least one parametrised function of something that is not a parameter."""
        reached: set[int] = set()
        for op in self.tape.ops:
            mixes = self.is_mixing(op) and any(r in self.parametric for r in op.reads)
            if mixes or not reached.isdisjoint(_uses(op)):
                reached.update(op.outs)
                reached.update(op.writes)
        return reached


def _uses(op: Op) -> tuple[int, ...]:
    """The slots whose values matter to `op`: `zeros_like(t)` and `x.view_as(t)` read the shape of t alone."""
    if op.name in _LIKE_ANOTHER:
        return op.reads[:1]
    return op.reads[1:] if op.name in SHAPED_LIKE else op.reads


def find(tape: Tape) -> Lineage:
    """The lineage of a recorded step.

    Raises:
        NoVAE: no latent draw and no Gaussian regulariser was found.
    """
    deps = Dependencies(tape)
    draws = _drawn(deps, Replay(tape, sane_parameters(tape)))
    if not draws:  # a sigma that has come to 0 hides the noise it scales
        draws = _drawn(deps, Replay(tape, small_parameters(tape)))
    draws = draws or _sampled(deps)
    if not draws:
        raise NoVAE("no random draw is scaled and shifted by an encoder and decoded")
    draw, notes = _choose(deps, draws)
    notes = _moved(deps, draw) or notes
    return _complete(deps, draw, notes, tuple(d.z for d in draws))


def _drawn(deps: Dependencies, replay: Replay) -> list[_Draw]:
    return _draws(deps, replay, _torch_noise(deps)) or _draws(deps, replay, _foreign_noise(deps))


# samplers of other distributions than the normal, that are handed their parameters
_SAMPLERS = {
    "gumbel_softmax", "bernoulli", "bernoulli_", "multinomial", "_sample_dirichlet", "_standard_gamma", "poisson", "binomial",
}  # fmt: skip


def _sampled(deps: Dependencies) -> list[_Draw]:
    """Latents that are drawn from a distribution whose parameters an encoder made (discrete ones, Dirichlets...)."""
    found = []
    for i, op in enumerate(deps.tape.ops):
        if op.name not in _SAMPLERS or deps.encoded.isdisjoint(op.reads):
            continue
        for slot in op.outs or op.writes:
            chain = _unmixed(deps, slot)
            if _reaches_decoder(deps, chain):
                z = _read_by_a_layer(deps, chain) or chain[-1:]
                found.append(_Draw(i, -1, z[0], (), f"{NOT_GAUSSIAN}, drawn by `{op.name}`", both=True, shift=True))
    return found


def find_deterministic(tape: Tape) -> Lineage:
    """The lineage of a step that draws no noise but still regularises a code as a VAE does.

    A code is a VAE's when the loss has a part that reaches the encoder without passing the output, and that part
    takes an exponential or a logarithm of what the encoder made (a Gaussian KL needs one; a norm does not).

    Raises:
        NoVAE: it is an autoencoder, or no autoencoder at all.
    """
    deps = Dependencies(tape)
    mixed = [
        s for op in tape.ops if deps.is_mixing(op) and any(r in deps.parametric for r in op.reads) for s in op.outs
    ]
    meetings = _meetings_of(deps, set(deps.descendants(mixed)), -1)
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
            best = tuple(m for m in _meetings(deps, z, data)) or (meeting,)
            latents = tape.slots[z].numel // max(1, tape.slots[z].shape[0])
            return Lineage(tape, -1, -1, z, heads, data, best, _decoder_ops(deps, z), "deterministic", latents)
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
            if deps.is_mixing(op) and any(r in deps.parametric for r in op.reads):
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
    unmixed: list[int] = []
    for head in heads:
        unmixed += [s for s in _unmixed(deps, head) if s in above]
    read = _read_by_a_layer(deps, unmixed)
    return read[0] if read else -1


def _read_by_a_layer(deps: Dependencies, slots: list[int]) -> list[int]:
    return [s for s in slots if any(
        deps.is_mixing(deps.tape.ops[p]) and any(r in deps.parametric for r in deps.tape.ops[p].reads)
        for p in deps.readers.get(s, []))]  # fmt: skip


HUGE = 1e4  # a weight above this is on its way to infinity


def sane_parameters(tape: Tape) -> dict[int, Tensor] | None:
    """None where the parameters are usable as they are; else small random ones."""
    live = [s.value.detach() for s in tape.slots if s.trainable and s.value is not None]
    if all(bool(torch.isfinite(v).all()) and float(v.abs().max() if v.numel() else 0) < HUGE for v in live):
        return None
    return small_parameters(tape)


def small_parameters(tape: Tape) -> dict[int, Tensor]:
    """Random ones in place of the trained: which tensor is what does not depend on values."""
    generator = torch.Generator().manual_seed(3)
    live = [s for s in tape.slots if s.trainable and s.value is not None]
    return {s.index: 0.05 * torch.randn(s.shape, generator=generator) for s in live}


@dataclass(slots=True)
class _Draw:
    noise_op: int
    eps: int
    z: int
    chain: tuple[int, ...]
    kind: str
    both: bool  # sigma and mu are both encoded
    shift: bool  # mu is encoded


def _draws(deps: Dependencies, replay: Replay, noise: list[tuple[int, int]]) -> list[_Draw]:
    """Those of `noise` that are latent draws; noise that cannot be followed counts only where nothing else can be."""
    found, failed = [], None
    for op, slot in noise:
        try:
            draw = _follow(deps, replay, op, slot)
        except ReplayFailed as error:
            failed = error
        else:
            found += [draw] if draw is not None else []
    if failed is not None and not found:
        raise failed
    return found


def _torch_noise(deps: Dependencies) -> list[tuple[int, int]]:
    """(position of the draw, slot) of every floating random tensor in the tape."""
    tape = deps.tape
    return [
        (i, slot)
        for i, op in enumerate(tape.ops)
        if op.random and op.name not in {"bernoulli", "bernoulli_", "multinomial", "poisson", "binomial"}
        for slot in (op.outs or op.writes)
        if tape.slots[slot].dtype.is_floating_point
    ]


def _foreign_noise(deps: Dependencies) -> list[tuple[int, int]]:
    """Tensors from outside torch that could be noise (numpy's): not parameters, not shown to the encoder."""
    return [
        (-1, s.index) for s in deps.tape.slots
        if s.external and s.value is not None and not s.requires_grad and not s.parameter
        and s.dtype.is_floating_point and s.numel > 1
        and not any(deps.is_mixing(deps.tape.ops[p]) for p in deps.readers.get(s.index, []))
    ]  # fmt: skip


def _follow(deps: Dependencies, replay: Replay, noise_op: int, eps: int) -> _Draw | None:
    """The latent made from one noise tensor, or None if it is not a latent draw."""
    tape = deps.tape
    chain = [s for s in _unmixed(deps, eps) if s not in deps.moved]
    joined = {
        slot: any(r in deps.encoded and r not in chain for r in tape.ops[deps.producer[slot]].reads)
        for slot in chain
        if slot != eps and slot in deps.producer
    }
    if not any(joined.values()) or not _reaches_decoder(deps, chain):
        return None
    kinds = _kinds(replay, eps, [s for s in chain if s != eps])
    return _latent_of(deps, noise_op, eps, chain, joined, kinds)


def _unmixed(deps: Dependencies, eps: int) -> list[int]:
    """Slots made from eps without passing a parametrised function, in the order made."""
    order, reached = [eps], {eps}
    for op in deps.tape.ops:
        if op.name in LOSSES or op.name in _GATHERING or op.name in _COMPARING:
            continue
        if deps.is_mixing(op) and any(r in deps.parametric for r in op.reads):
            continue
        if not reached.isdisjoint(op.reads):
            new = [s for s in (*op.outs, *op.writes) if s not in reached]
            reached.update(new)
            order.extend(new)
    return order


def _reaches_decoder(deps: Dependencies, chain: Iterable[int]) -> bool:
    reached = set(chain)
    for op in deps.tape.ops:
        if not reached.isdisjoint(op.reads):
            if deps.is_mixing(op) and any(r in deps.parametric or r in deps.encoded for r in op.reads):
                return True
            reached.update(op.outs)
            reached.update(op.writes)
    return False


def _kinds(replay: Replay, eps: int, slots: list[int]) -> dict[int, str]:
    """Slot -> "elementwise" (A * eps + B), "linear" (L eps + B), "other" or "free" (of eps)."""
    shape = replay.tape.slots[eps].shape
    generator = torch.Generator().manual_seed(7)
    r1, r2 = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    points = {
        "0": torch.zeros(shape).double(),
        "1": torch.ones(shape).double(),
        "r1": r1,
        "r2": r2,
        "sum": r1 + r2,
    }
    slots = [s for s in slots if replay.tape.slots[s].dtype.is_floating_point]
    with torch.no_grad():
        at = {name: replay.run(slots, feed={eps: value.clone()}) for name, value in points.items()}
    return {s: _kind([at[name][s] for name in points], r1) for s in slots}


def _kind(at: list[Tensor], r1: Tensor) -> str:
    at0, at1, at_r1, at_r2, at_sum = at
    scale = at_r1.abs().max() + at0.abs().max() + 1e-300
    if not torch.isfinite(scale):
        return "other"
    if (at_r1 - at0).abs().max() <= 1e-12 * scale:
        return "free"
    factor = _aligned(r1, at0)
    if factor is not None and (at_r1 - at0 - (at1 - at0) * factor).abs().max() <= 1e-9 * scale:
        return "elementwise"
    if (at_sum - at_r1 - at_r2 + at0).abs().max() <= 1e-9 * scale:
        return "linear"
    return "other"


def _aligned(noise: Tensor, like: Tensor) -> Tensor | None:
    if noise.shape == like.shape:
        return noise
    if noise.numel() == like.numel():
        return noise.reshape(like.shape)
    try:
        return noise.expand(like.shape) if noise.dim() <= like.dim() else None
    except RuntimeError:
        return None


def _latent_of(
    deps: Dependencies,
    noise_op: int,
    eps: int,
    chain: list[int],
    joined: dict[int, bool],
    kinds: dict[int, str],
) -> _Draw | None:
    """z: the first tensor A * eps + B from which on nothing encoded is added any more."""
    affine = [s for s in chain if kinds.get(s) == "elementwise" and _reaches_decoder(deps, [s])]
    shifted = [s for s in affine if joined.get(s) and _adds(deps, s, set(chain))]
    if shifted:
        z = shifted[0]
        both = _scaled(deps, z, set(chain))
        return _Draw(noise_op, eps, z, tuple(affine), "diagonal Gaussian", both=both, shift=True)
    other = [s for s in chain if kinds.get(s) == "linear" and joined.get(s) and _reaches_decoder(deps, [s])]
    if other:
        return _Draw(noise_op, eps, other[-1], (), "full-covariance Gaussian", both=True, shift=True)
    scaled = [s for s in affine if joined.get(s)]
    if scaled:
        return _Draw(noise_op, eps, scaled[-1], tuple(affine), "diagonal Gaussian", both=False, shift=False)
    bent = [s for s in chain if kinds.get(s) == "other" and joined.get(s) and _reaches_decoder(deps, [s])]
    return _Draw(noise_op, eps, bent[-1], (), NOT_GAUSSIAN, both=True, shift=True) if bent else None


_ADDING = {"add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "__isub__", "rsub",
           "addcmul", "addcmul_", "lerp", "addcdiv", "baddbmm", "subtract", "normal_affine"}  # fmt: skip


def _adds(deps: Dependencies, slot: int, chain: set[int]) -> bool:
    """Does the op that made `slot` add something encoded to it? (Also through stacking, e.g. torch.sum.)"""
    op = deps.tape.ops[deps.producer[slot]]
    return op.name in _ADDING and any(r in deps.encoded and r not in chain for r in op.reads)


def _scaled(deps: Dependencies, z: int, chain: set[int]) -> bool:
    """Was the noise multiplied by something encoded on its way to z?"""
    on_way = deps.ancestors([z]) & chain
    for slot in on_way:
        position = deps.producer.get(slot)
        if position is None:
            continue
        op = deps.tape.ops[position]
        encoded = [r for r in op.reads if r in deps.encoded and r not in chain]
        if op.name in {"addcmul", "addcmul_", "normal_affine"} or (op.name not in _ADDING and encoded):
            return True
    return False


def _choose(deps: Dependencies, draws: list[_Draw]) -> tuple[_Draw, list[str]]:
    """The latent draw among the candidates, and what to say about the others."""
    strong = [d for d in draws if d.both and d.shift] or draws
    strong = _without_multiplicative_noise(deps, strong)
    first = strong[0]
    later = [d for d in strong[1:] if d.z != first.z]
    if not later:
        return first, []
    behind = deps.descendants([first.z])
    if any(d.z in behind for d in later):
        first.kind = "hierarchy"
        return first, [f"{len(strong)} latent draws, one feeding the next: a hierarchy is named, not audited"]
    first.kind = "several latents"
    return first, [f"{len(strong)} separate latent draws: only single-latent models are audited"]


def _moved(deps: Dependencies, draw: _Draw) -> list[str]:
    """Is the sample moved along gradients of the model before it is decoded for the loss?"""
    behind = deps.descendants([draw.z])
    steps = [op for op in deps.tape.ops if op.name == "grad" and not behind.isdisjoint(op.reads)]
    if not any(o in deps.encoded for op in steps for o in op.outs):
        return []
    draw.kind = "moved by gradients"
    named = "such a posterior is named, not audited"
    return [f"gradients of the model move the sample (Hamiltonian or Langevin steps): {named}"]


def _without_multiplicative_noise(deps: Dependencies, draws: list[_Draw]) -> list[_Draw]:
    """Gaussian dropout h * (1 + a eps) also has the form A eps + B; it is no latent when another draw is."""
    if len(draws) < 2:
        return draws
    kept = []
    for draw in draws:
        op = deps.tape.ops[deps.producer[draw.z]]
        encoded = {r for r in deps.ancestors([draw.z], stop=deps.encoded) if r in deps.encoded and r != draw.z}
        if len(encoded) > 1 or op.name in _ADDING:
            kept.append(draw)
    return kept or draws


def _complete(deps: Dependencies, draw: _Draw, notes: list[str], candidates: tuple[int, ...]) -> Lineage:
    tape = deps.tape
    decoder_ops = _decoder_ops(deps, draw.z)
    heads = _heads(deps, draw)
    data = data_of(deps, draw.z)
    meetings = _meetings(deps, draw.z, data)
    if not meetings:
        notes.append("no tensor made from the latent meets the data: the reconstruction term was not found")
        meetings = (Meeting(-1, -1, None, None),)
    elif draw.kind == "diagonal Gaussian":
        notes += _beside(deps, {draw.z, *draw.chain, *candidates}, data, meetings)
    shape = tape.slots[draw.z].shape
    latents = 1
    for size in shape[_batch_axis(tape, draw.z, data) + 1 :]:
        latents *= size
    latents = _unrepeated(deps, draw, heads, latents)
    if tape.autocast:
        notes.append("")
    return Lineage(
        tape, draw.noise_op, -1 if draw.kind.startswith(NOT_GAUSSIAN) else draw.eps, draw.z, heads, data, meetings, decoder_ops, draw.kind, latents,
        [n for n in notes if n], draw.chain, candidates, *_sides(deps, draw.z, heads),
    )  # fmt: skip


def _sides(deps: Dependencies, z: int, heads: tuple[int, ...]) -> tuple[frozenset[int], frozenset[int]]:
    """(ops, what they read): parametrised functions that predict labels or properties from mu or the log-variance."""
    sampled, above = deps.descendants([z]), deps.ancestors([z])
    code = {s for head in heads for s in _unmixed(deps, head)} - sampled
    found = [
        op for op in deps.tape.ops
        if deps.is_mixing(op) and any(r in deps.parametric for r in op.reads) and not code.isdisjoint(op.reads)
        and above.isdisjoint(op.outs) and _meets_labels(deps, op.outs, above)
    ]  # fmt: skip
    return frozenset(op.index for op in found), frozenset(r for op in found for r in op.reads if r in code)


def _unrepeated(deps: Dependencies, draw: _Draw, heads: tuple[int, ...], latents: int) -> int:
    """Units of one sample where each example draws several (z holds more numbers than any head gives)."""
    slots = deps.tape.slots
    most = max((slots[h].numel // max(1, *slots[h].shape[:1]) for h in heads), default=0)
    if draw.kind != "diagonal Gaussian" or not most or latents <= most or latents % most:
        return latents
    return most // 2 if len(heads) == 1 and draw.both and not latents % (most // 2 or 1) else most


def _beside(deps: Dependencies, latent: set[int], data: int, meetings: tuple[Meeting, ...]) -> Iterator[str]:
    """Ways from data to output, and from latent to loss, that a VAE does not have."""
    tape = deps.tape
    best = meetings[0]
    shown = {s for s in (data, best.target) if s is not None and s >= 0}
    masks = {s for op in tape.ops if op.name in _COMPARING for s in op.outs}
    masks |= _sizes(deps, data)
    shown |= {origin(deps, s) for s in shown}
    outputs = {m.output for m in meetings if m == best or tape.ops[deps.position[m.op]].name in LOSSES}
    if shown & deps.ancestors(outputs, stop=latent | masks):
        yield (
            "the decoder is shown the data beside the latent (a skip connection, or teacher forcing): "
            "how much the latent carries is not audited"
        )
    beside = deps.ancestors(tape.roots, stop={best.output}) - deps.ancestors([best.output])
    behind = deps.descendants(latent)
    part = deps.descendants([best.output])
    above = deps.ancestors(latent)
    further = [op for op in tape.ops if deps.is_mixing(op) and any(r in deps.parametric for r in op.reads)
               and not behind.isdisjoint(op.reads) and not beside.isdisjoint(op.outs) and part.isdisjoint(op.reads)]  # fmt: skip
    scored = (_meets_data, _meets_labels)
    if any(
        not _joins(deps, op.outs, best.output) and not any(f(deps, op.outs, above) for f in scored) for op in further
    ):
        yield (
            "the latent also reaches the loss by a further parametrised function (a second output, a critic, "
            "a learned prior): only the output that meets the data is audited"
        )


def _meets_data(deps: Dependencies, slots: Iterable[int], above: set[int]) -> bool:
    """Is what `slots` make scored against what the encoder was shown (a further column of a table)? `above`: all z is made of."""
    mine = deps.descendants(slots)
    return any(
        not {r, origin(deps, r)}.isdisjoint(above)
        for op in deps.tape.ops if not mine.isdisjoint(op.reads) and not deps.is_mixing(op)
        for r in op.reads if r not in mine and r not in deps.encoded and r not in deps.parametric
    )  # fmt: skip


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
    if position is not None and deps.tape.ops[position].name in _PICKING:
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


def _batch_axis(tape: Tape, z: int, data: int) -> int:
    """The axis of z that counts examples: the first, or the one as long as the data's first."""
    shape = tape.slots[z].shape
    if data >= 0 and tape.slots[data].shape and len(shape) > 2:
        size = tape.slots[data].shape[0]
        if shape[0] != size and shape[1] == size:
            return 1
    return 0 if len(shape) > 1 else -1


def _decoder_ops(deps: Dependencies, z: int) -> frozenset[int]:
    """Ops (by `Op.index`) on the way from z to (and including) the parametrised functions behind it."""
    tape = deps.tape
    behind = deps.descendants([z])
    mixers = [op for op in tape.ops if deps.is_mixing(op) and not behind.isdisjoint(op.reads)]
    # without any parameter it is an inner product z z'
    mixers = [op for op in mixers if any(r in deps.parametric for r in op.reads)] or mixers
    before = deps.ancestors([s for op in mixers for s in op.outs])
    return frozenset(
        op.index for op in tape.ops
        if not behind.isdisjoint(op.reads) and not before.isdisjoint((*op.outs, *op.writes))
    )  # fmt: skip


def _heads(deps: Dependencies, draw: _Draw) -> tuple[int, ...]:
    """Outputs of the nearest parametrised functions above z (where mu and log-variance come from)."""
    tape = deps.tape
    found: list[int] = []
    todo, seen = [draw.z], {draw.z}
    while todo:
        position = deps.producer.get(todo.pop())
        if position is None:
            continue
        op = tape.ops[position]
        if deps.is_mixing(op) and any(r in deps.parametric for r in op.reads):
            found.extend(s for s in op.outs if s not in found)
            continue
        for read in op.reads:
            if read not in seen and read != draw.eps:
                seen.add(read)
                todo.append(read)
    return tuple(sorted(s for s in found if s in deps.ancestors([draw.z])))


def data_of(deps: Dependencies, z: int) -> int:
    """The batch the encoder is shown: the largest non-parameter input of its parametrised functions,
    followed back through whatever was done to it one tensor at a time.
    """
    tape = deps.tape
    above = deps.ancestors([z])
    inputs = [
        r for op in tape.ops
        if (deps.is_mixing(op) or (op.name in _GATHERING and any(r in deps.encoded for r in op.reads)))
        and not above.isdisjoint(op.outs)
        for r in op.reads
        if r not in deps.parametric and r not in deps.encoded and not _blank(deps, r)
    ]  # fmt: skip
    roots = list(dict.fromkeys(origin(deps, r) for r in inputs))
    parts = list(dict.fromkeys(origin(deps, p) for r in inputs for p in _gathered(deps, r)))
    return max(_without_conditions(deps, parts, z) or roots, key=lambda s: tape.slots[s].numel, default=-1)


def _gathered(deps: Dependencies, slot: int) -> list[int]:
    """What was put side by side to make `slot`; itself where nothing was."""
    position = deps.producer.get(slot)
    if position is None or deps.tape.ops[position].name not in _GATHERING:
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


def origin(deps: Dependencies, slot: int) -> int:
    """`slot` followed back through single-tensor functions, to where it was picked or came from outside."""
    while True:
        position = deps.producer.get(slot)
        if position is None:
            return slot
        op = deps.tape.ops[position]
        if op.name in _GATHERING and len(op.reads) > 1:
            big = max(op.reads, key=lambda s: deps.tape.slots[s].numel)
            if deps.tape.slots[big].shape[:1] != deps.tape.slots[slot].shape[:1] or big in deps.parametric:
                return slot
            slot = big
            continue
        sources = [r for r in op.reads if r not in deps.parametric and not _constant(deps, r)]
        noisy = [r for r in sources if deps.producer.get(r) is not None and deps.tape.ops[deps.producer[r]].random]
        sources = [r for r in dict.fromkeys(sources) if r not in noisy]
        if op.random or op.name in _PICKING or len(sources) != 1:
            return slot
        slot = sources[0]


def _constant(deps: Dependencies, slot: int) -> bool:
    s = deps.tape.slots[slot]
    return s.external and len(s.shape) == 0


def _blank(deps: Dependencies, slot: int) -> bool:
    """Nothing but zeros from outside: the first state of a recurrent network."""
    value = deps.tape.slots[slot].value
    return value is not None and value.is_floating_point() and not bool(value.detach().any())


def _meetings(deps: Dependencies, z: int, data: int) -> tuple[Meeting, ...]:
    """Candidates for (output, target), best first: loss functions and targets made from the encoder's data first."""
    behind = deps.descendants([z])
    mixed = [s for op in deps.tape.ops if deps.is_mixing(op) and not behind.isdisjoint(op.reads) for s in op.outs]
    return _meetings_of(deps, deps.descendants(mixed), data, deps.ancestors([z]))


def _meetings_of(
    deps: Dependencies, decoded: set[int], data: int, above: set[int] | None = None
) -> tuple[Meeting, ...]:
    tape = deps.tape
    from_data = deps.descendants([data]) if data >= 0 else set()
    storage = tape.slots[data].storage if data >= 0 else None
    later_mixed = deps.ancestors([
        r for op in tape.ops if deps.is_mixing(op) and any(p in deps.parametric for p in op.reads) for r in op.reads
    ])  # fmt: skip
    found: list[tuple[tuple[int, ...], Meeting]] = []
    scored = False  # is there a loss function of an output and something of the data?
    for op in tape.ops:
        outputs = [r for r in _uses(op) if r in decoded]
        if not outputs or deps.is_mixing(op) or op.name in _GATHERING | _COMPARING | _NORMS:
            continue
        targets = [r for r in _uses(op) if r not in decoded and r not in deps.parametric
                   and (r not in deps.encoded or r in from_data) and _like(tape, outputs[0], r)]  # fmt: skip
        if not targets or any(s in later_mixed for s in op.outs):
            continue
        target = targets[0]
        related = target in from_data or tape.slots[target].storage == storage
        fresh = not tape.slots[target].parameter
        same = tape.slots[target].numel == tape.slots[outputs[0]].numel
        features = above is not None and target in deps.encoded and target not in above
        kin = (features, not related)
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


__all__ = [
    "Dependencies",
    "Lineage",
    "Meeting",
    "NoVAE",
    "Ref",
    "ReplayFailed",
    "data_of",
    "find",
    "origin",
]
