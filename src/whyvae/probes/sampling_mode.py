"""Was the decoder in training mode when the user sampled, and what does that do to the samples?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.sampling import by_place, drawn_by, sound_calls
from whyvae.verdict import Where
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.step import Decoded
from whyvae.watch.tape import Op

MODED = {  # layers that behave differently in training: position of their flag, its default
    "dropout": (2, True), "dropout1d": (2, True), "dropout2d": (2, True), "dropout3d": (2, True),
    "alpha_dropout": (2, False), "feature_alpha_dropout": (2, False), "batch_norm": (5, False), "instance_norm": (5, True),
}  # fmt: skip
REPEATS = 8
SEEN = 0.05  # a twentieth of the variance between samples


@dataclass(frozen=True)
class Mode:
    """The last call of the decoder at one place. `changed`: mean squared difference between its output in the mode it
    was called in and in evaluation mode, over the variance between samples (0 where there is none).
    """

    at: Where | None
    layers: tuple[str, ...]  # in training mode
    layer_at: Where | None  # of the first of them
    rows: int
    changed: float
    step: int


@dataclass(frozen=True)
class SamplingMode(Probe):
    """Places in the order of their last calls."""

    places: tuple[Mode, ...]

    @classmethod
    def measure(cls, subject: Any) -> Self:
        return cls(tuple(_mode(calls[-1]) for calls in by_place(sound_calls(subject))))


MOVED = "explained by GEN03: samples made in training mode moved the running statistics of batch norm"


def moved_statistics(mode: SamplingMode | None, steps: int) -> bool:
    """Was batch norm in training mode when samples were made after the training (of `steps`), and do these depend on it?
    Each such call moves the running statistics towards its own few rows, and with them the model that the run ended with.
    """
    if mode is None:
        return False
    last = mode.places[-1]
    return "batch_norm" in last.layers and last.changed > SEEN and last.step >= steps


def _mode(call: Decoded) -> Mode:
    path = decoding(call)
    moded = [op for op in path if op.name in MODED and _training(op)]
    first = next((op.place for op in moded if op.place), None)
    changed = _changed(call, path[-1].outs[0]) if moded and path[-1].outs else 0.0
    names = tuple(dict.fromkeys(op.name for op in moded))
    place = call.place
    return Mode(
        Where(*place) if place else None, names, Where(*first) if first else None, call.z.shape[0], changed, call.step
    )


def decoding(call: Decoded) -> list[Op]:
    """The ops from the decoder's first parametrised function to its last, on the tape of the call."""
    deps = Dependencies(call.tape)
    behind = deps.descendants([call.slot])
    ops = [op for op in call.tape.ops[call.op :] if not behind.isdisjoint(op.reads)]
    last = max((i for i, op in enumerate(ops) if any(r in deps.parametric for r in op.reads)), default=-1)
    return ops[: last + 1]


def _training(op: Op) -> bool:
    position, default = MODED[op.name]
    if op.name.endswith("dropout") and _argument(op, 1, "p", 0.5) == 0:
        return False
    if op.name == "batch_norm" and _argument(op, 1, "running_mean", None) is None:
        return False  # the batch's own statistics in both modes
    if op.name == "instance_norm":
        return False
    return _argument(op, position, "training", default) is True


def _argument(op: Op, position: int, name: str, default: Any) -> Any:
    return op.args[position] if len(op.args) > position else op.kwargs.get(name, default)


def _changed(call: Decoded, slot: int) -> float:
    replay = Replay(call.tape)
    differences, samples = [], []
    for seed in range(REPEATS):
        try:
            feed = {call.slot: entered_again(call, replay, seed)}
            with torch.no_grad():
                drawn = replay.run([slot], feed=feed, seed=REPEATS + seed)[slot]  # not the stream of z
                settled = replay.run([slot], feed=feed, training=False)[slot]
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed
        differences.append((drawn - settled).square().flatten(1).mean())
        samples.append(settled.flatten(1))
    spread = torch.cat(samples).var(0).mean()
    return float(torch.stack(differences).mean() / spread.clamp_min(1e-30))


def entered_again(call: Decoded, replay: Replay, seed: int) -> Tensor:
    """What entered the decoder, as recorded, and then drawn again where the draw was seen."""
    if drawn_by(call) is None or seed == 0:
        slot = call.tape.slots[call.slot]
        if call.z.shape == slot.shape:
            return call.z.double()
    with torch.no_grad():
        return replay.run([call.slot], seed=seed)[call.slot]
