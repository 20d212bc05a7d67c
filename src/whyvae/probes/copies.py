"""A copy of the model that makes the samples (averaged weights, a reloaded checkpoint): were its running statistics copied too?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.normalisation import argument, normalising
from whyvae.probes.sampling import sound_calls
from whyvae.probes.sampling_mode import decoding, entered_again
from whyvae.verdict import Where
from whyvae.watch.replay import NORMALISING, Replay, ReplayFailed
from whyvae.watch.step import Decoded
from whyvae.watch.tape import Op


@dataclass(frozen=True)
class CopiedStatistics(Probe):
    """The last call of a decoder whose batch norms, in evaluation mode, have the statistics that a layer begins with.

    `changed`: mean squared difference between its output and what it puts out with the trained model's statistics, over the
    variance between the latter's samples.
    """

    layers: int  # normalisations on the way
    fresh: int  # of them, those with mean 0 and variance 1 throughout
    changed: float
    at: Where | None

    @classmethod
    def measure(cls, subject: Any) -> Self:
        behind = subject.deps.descendants([subject.lineage.z])
        trained = [op for op in normalising(subject) if not behind.isdisjoint(op.reads)]
        if not trained or subject.count < 1:
            raise CannotMeasure("does not apply: no layer of the decoder normalises by running statistics")
        for call in reversed(sound_calls(subject)):
            path = decoding(call)
            own = [op for op in path if op.name in NORMALISING and argument(op, 1, "running_mean") is not None]
            if len(own) == len(trained) and not any(argument(op, 5, "training") is True for op in own):
                try:
                    return cls._of(subject, call, list(zip(own, trained, strict=True)), path[-1].outs[0])
                except ReplayFailed as failed:
                    raise CannotMeasure(str(failed)) from failed
        raise CannotMeasure("does not apply: no samples were made by running statistics")

    @classmethod
    def _of(cls, subject: Any, call: Decoded, pairs: list[tuple[Op, Op]], output: int) -> Self:
        replay, fresh = Replay(call.tape), 0
        feed: dict[int, torch.Tensor] = {}
        for own, trained in pairs:
            mine, theirs = (_statistics(op) for op in (own, trained))
            values = subject.replay.run(theirs, training=False)
            first = [replay.external(s).detach() for s in mine]
            fresh += bool((first[0] == 0).all() and (first[1] == 1).all())
            feed |= {m: values[t].detach() for m, t in zip(mine, theirs, strict=True)}
        z = {call.slot: entered_again(call, replay, 0)}
        with torch.no_grad():
            made = replay.run([output], feed=z, training=False)[output]
            meant = replay.run([output], feed={**z, **feed}, training=False)[output]
        if meant.shape[0] < 2:
            raise CannotMeasure("the samples were made one at a time: their variance is not known")
        changed = float((made - meant).square().mean() / meant.flatten(1).var(0).mean().clamp_min(1e-30))
        return cls(len(pairs), fresh, changed, Where(*call.place) if call.place else None)


def _statistics(op: Op) -> tuple[int, int]:
    return argument(op, 1, "running_mean").slot, argument(op, 2, "running_var").slot
