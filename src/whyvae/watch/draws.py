"""The draws that make the latent of a step: noise that encoded tensors scale and shift, or a sampler that is handed them.

Whether a tensor is `A * eps + B` is settled by running the tape at several values of `eps`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whyvae.watch.dependencies import GATHERING, Dependencies, reaches_decoder, read_by_a_layer, unmixed
from whyvae.watch.meetings import meets_data
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.tape import Tape

SIDE_BY_SIDE = "side_by_side"  # name of the ops by which several latents are made one (watch/parallel.py)
HIERARCHY = "hierarchy"
ABOVE = "the prior of the latent that is decoded comes from further latents (a hierarchy): these are not audited"
DIAGONAL, FULL = "diagonal Gaussian", "full-covariance Gaussian"  # of a posterior
GAUSSIAN = {DIAGONAL, FULL}
NOT_GAUSSIAN = "not Gaussian"  # the posterior of a sample that is no A * eps + B, begins so


@dataclass(slots=True)
class Draw:
    noise_op: int
    eps: int
    z: int
    chain: tuple[int, ...]
    kind: str
    both: bool  # sigma and mu are both encoded
    shift: bool  # mu is encoded


def drawn(deps: Dependencies, replay: Replay) -> list[Draw]:
    for noise in (_torch_noise, _gathered_noise, _foreign_noise):
        found = _draws(deps, replay, noise(deps))
        if found:
            return found
    return []


# samplers of other distributions than the normal, that are handed their parameters
_SAMPLERS = {
    "gumbel_softmax", "bernoulli", "bernoulli_", "multinomial", "_sample_dirichlet", "_standard_gamma", "poisson", "binomial",
}  # fmt: skip


def sampled(deps: Dependencies) -> list[Draw]:
    """Latents that are drawn from a distribution whose parameters an encoder made (discrete ones, Dirichlets...)."""
    found = []
    for i, op in enumerate(deps.tape.ops):
        if op.name not in _SAMPLERS or deps.encoded.isdisjoint(op.reads):
            continue
        for slot in op.outs or op.writes:
            chain = unmixed(deps, slot)
            if reaches_decoder(deps, chain):
                z = read_by_a_layer(deps, chain) or chain[-1:]
                found.append(Draw(i, -1, z[0], (), f"{NOT_GAUSSIAN}, drawn by `{op.name}`", both=True, shift=True))
    return found


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


def _draws(deps: Dependencies, replay: Replay, noise: list[tuple[int, int]]) -> list[Draw]:
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


def _gathered_noise(deps: Dependencies) -> list[tuple[int, int]]:
    """(position of a draw, slot) of what is put together of draws alone: a draw and its mirror image, a part for each group
    of units.
    """
    slots, noise = deps.tape.slots, {slot: position for position, slot in _torch_noise(deps)}
    found = []
    for op in deps.tape.ops:
        if op.name not in GATHERING:
            continue
        above = deps.ancestors(op.reads)
        first = [noise[s] for s in above if s in noise]
        if first and not any(slots[s].external and slots[s].numel > 1 for s in above):
            found += [(min(first), s) for s in op.outs]
    return found


def _foreign_noise(deps: Dependencies) -> list[tuple[int, int]]:
    """Tensors from outside torch that could be noise (numpy's): not parameters, not shown to the encoder."""
    return [
        (-1, s.index) for s in deps.tape.slots
        if s.external and s.value is not None and not s.requires_grad and not s.parameter
        and s.dtype.is_floating_point and s.numel > 1
        and not any(deps.is_mixing(deps.tape.ops[p]) for p in deps.readers.get(s.index, []))
    ]  # fmt: skip


def _follow(deps: Dependencies, replay: Replay, noise_op: int, eps: int) -> Draw | None:
    """The latent made from one noise tensor, or None if it is not a latent draw."""
    tape = deps.tape
    if noise_op >= 0 and tape.ops[noise_op].name == SIDE_BY_SIDE:
        z = next(op.outs[0] for op in tape.ops if op.name == SIDE_BY_SIDE and op.reads)
        return Draw(noise_op, eps, z, (z,), DIAGONAL, both=True, shift=True)
    chain = [s for s in unmixed(deps, eps) if s not in deps.moved]
    joined = {
        slot: any(r in deps.encoded and r not in chain for r in tape.ops[deps.producer[slot]].reads)
        for slot in chain
        if slot != eps and slot in deps.producer
    }
    if not any(joined.values()) or not reaches_decoder(deps, chain):
        return None
    kinds = _kinds(replay, eps, [s for s in chain if s != eps])
    return _latent_of(deps, replay, noise_op, eps, chain, joined, kinds)


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
    replay: Replay,
    noise_op: int,
    eps: int,
    chain: list[int],
    joined: dict[int, bool],
    kinds: dict[int, str],
) -> Draw | None:
    """z: the first tensor A * eps + B from which on nothing encoded is added any more."""
    affine = [s for s in chain if kinds.get(s) == "elementwise" and reaches_decoder(deps, [s])]
    shifted = [s for s in affine if joined.get(s) and _adds(deps, s, set(chain))]
    if shifted:
        z = shifted[0]
        both = _scaled(deps, z, set(chain))
        return Draw(noise_op, eps, z, tuple(affine), DIAGONAL, both=both, shift=True)
    other = [s for s in chain if kinds.get(s) == "linear" and joined.get(s) and reaches_decoder(deps, [s])]
    if other:
        return Draw(noise_op, eps, other[-1], (), FULL, both=True, shift=True)
    scaled = [s for s in affine if joined.get(s)]
    if scaled:
        return Draw(noise_op, eps, scaled[-1], tuple(affine), DIAGONAL, both=False, shift=False)
    bent = [s for s in chain if kinds.get(s) == "other" and joined.get(s) and reaches_decoder(deps, [s])]
    if not bent:
        return None
    return _of_bent_noise(deps, replay, noise_op, eps, chain, joined) or Draw(
        noise_op, eps, bent[-1], (), NOT_GAUSSIAN, both=True, shift=True
    )


NORMAL = {"randn", "randn_like", "normal", "normal_"}  # of others, a Laplace or logistic posterior is made


def _of_bent_noise(
    deps: Dependencies, replay: Replay, noise_op: int, eps: int, chain: list[int], joined: dict[int, bool]
) -> Draw | None:
    """z = A * e + B, where e is made of a normal draw alone and is no N(0, 1) any more (normalised, squashed): e is the noise."""
    slots = deps.tape.slots
    if noise_op < 0 or deps.tape.ops[noise_op].name not in NORMAL:
        return None
    own = deps.descendants([eps])
    alone = [
        s for s in chain if s != eps and slots[s].numel == slots[eps].numel
        and all(a in own or (slots[a].external and slots[a].numel == 1) for a in deps.ancestors([s], stop={eps}))
    ]  # fmt: skip
    if not alone:
        return None
    kinds = _kinds(replay, alone[-1], [s for s in chain if s != alone[-1] and s in deps.descendants(alone[-1:])])
    affine = [s for s in chain if kinds.get(s) == "elementwise" and reaches_decoder(deps, [s])]
    z = next((s for s in affine if joined.get(s) and _adds(deps, s, set(chain))), None)
    if z is None:
        return None
    both = _scaled(deps, z, set(chain))
    return Draw(noise_op, alone[-1], z, tuple(affine), DIAGONAL, both=both, shift=True)


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


def choose(deps: Dependencies, draws: list[Draw]) -> tuple[Draw, list[str]]:
    """The latent draw among the candidates, and what to say about the others."""
    strong = [d for d in draws if d.both and d.shift] or draws
    strong = _without_multiplicative_noise(deps, strong)
    lowest = [d for d in strong if meets_data(deps, d.z)] or strong
    first = lowest[0]
    later = [d for d in lowest[1:] if d.z != first.z]
    if not later:
        return first, [ABOVE] if len(lowest) < len(strong) else []
    behind = deps.descendants([first.z])
    if any(d.z in behind for d in later):
        first.kind = HIERARCHY
        return first, [f"{len(strong)} latent draws, one feeding the next: a hierarchy is named, not audited"]
    first.kind = "several latents"
    return first, [f"{len(strong)} separate latent draws: only single-latent models are audited"]


def moved(deps: Dependencies, draw: Draw) -> list[str]:
    """Is the sample moved along gradients of the model before it is decoded for the loss?"""
    behind = deps.descendants([draw.z])
    steps = [op for op in deps.tape.ops if op.name == "grad" and not behind.isdisjoint(op.reads)]
    if not any(o in deps.encoded for op in steps for o in op.outs):
        return []
    draw.kind = "moved by gradients"
    named = "such a posterior is named, not audited"
    return [f"gradients of the model move the sample (Hamiltonian or Langevin steps): {named}"]


def _without_multiplicative_noise(deps: Dependencies, draws: list[Draw]) -> list[Draw]:
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
