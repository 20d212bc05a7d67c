"""Which of what was trained is looked at: the model, and of its recorded steps the one that stands for them."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from whyvae.watch import lineage as lineages
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.step import Decoded, Optimizer, Step


class NothingSeen(Exception):
    """No VAE was seen; the message is one line for the user."""


@dataclass(slots=True)
class Training:
    """The recorded steps of one model, counted from its own first; `ids` are those of its parameters.

    A script may train several: one for each weight of the KL, each fold, each seed.
    """

    steps: list[Step]
    ids: set[int] = field(default_factory=set)
    optimizers: list[Optimizer] = field(default_factory=list)
    start: int = 0  # optimiser steps of others done before

    def end(self, main: Step) -> int | None:
        """Optimiser steps of the script when the parameters of `main` were last stepped; None if nothing steps them."""
        mine = main.tape.parameter_ids()
        own = [o for o in self.optimizers if not mine.isdisjoint(o.parameters)]
        return max((o.begun + o.steps for o in own), default=None)


def trainings_of(steps: list[Step], optimizers: Sequence[Optimizer]) -> list[Training]:
    """`steps` by model, in the order in which they were last trained; one training where no optimiser tells them apart."""
    groups: list[Training] = []
    for step in steps:
        mine = step.tape.parameter_ids()
        own = [o for o in optimizers if not mine.isdisjoint(o.parameters)]
        ids = mine.union(*(o.parameters for o in own))
        same = [g for g in groups if not own or not g.optimizers or not ids.isdisjoint(g.ids)]
        group = Training([])
        for other in same:
            group.steps, group.ids = group.steps + other.steps, group.ids | other.ids
        groups = [g for g in groups if g not in same]
        group.steps.append(step)
        group.ids |= ids
        group.optimizers = [o for o in optimizers if not group.ids.isdisjoint(o.parameters)]
        groups.append(group)
    if len(groups) < 2:
        return [Training(steps, optimizers=list(optimizers))]
    for group in groups:
        group.start = min((o.begun for o in group.optimizers), default=0)
        group.steps = [replace(s, index=max(0, s.index - group.start)) for s in group.steps]
    return groups


def chosen_training(trainings: list[Training], decoded: list[Decoded]) -> tuple[Training, Step, Lineage]:
    """The training that is looked at, with its main step: that of the model that was sampled last, or else trained last.

    Raises:
        NothingSeen: none is a VAE's.
    """
    sampled = [t for call in decoded[::-1] for t in trainings if entered(call, t)]
    reason: NothingSeen | None = None
    for training in (*sampled[:1], *trainings[::-1]):
        try:
            return training, *main_step(training.steps)
        except NothingSeen as nothing:
            reason = reason or nothing
    assert reason is not None  # noqa: S101 - there is at least one training
    raise reason


def entered(call: Decoded, training: Training) -> bool:
    """Was it this training's decoder?"""
    return not call.tape.parameter_ids().isdisjoint(training.ids)


# So many recorded steps, and no program among them seen more often: they change all the time.
ENOUGH_STEPS, REPEATED = 8, 2


def main_step(steps: list[Step]) -> tuple[Step, Lineage]:
    """The last finite step of the most common program that is a VAE's; of a program that draws no noise where none does,
    or where the noise stopped in the first half of the run (a model left in evaluation mode). Where nearly every step has a
    program of its own (sequences packed by their lengths), the last of them.
    """
    order = Counter(step.tape.program_key() for step in steps)
    if len(steps) >= ENOUGH_STEPS and max(order.values()) <= REPEATED:
        order = Counter({step.tape.program_key(): i for i, step in enumerate(steps)})
    reason: Exception = lineages.NoVAE("")
    silent: tuple[Step, Lineage] | None = None
    for key, _ in order.most_common(4):
        same = [s for s in steps if s.tape.program_key() == key]
        step = next((s for s in reversed(same) if s.finite), same[-1])
        try:
            found = step, lineages.find(step.tape)
        except ReplayFailed as failed:
            reason = reason if str(reason) else failed
        except lineages.NoVAE as no:
            reason = no
            silent = silent or _deterministic(step)
        else:
            return _silent_later(steps[-1], step, same[-1].index) or found
    if silent is not None:
        return silent
    raise NothingSeen(f"no VAE was seen: {reason}{_scripted()}")


def _scripted() -> str:
    """What to do where a model is compiled by torch.jit: nothing inside it is seen."""
    if not any(issubclass(type(o), torch.jit.ScriptModule) for o in gc.get_objects()):
        return ""
    return "; a module is compiled by torch.jit, inside which nothing is seen: set PYTORCH_JIT=0 to watch it as written"


def _silent_later(last: Step, vae: Step, until: int) -> tuple[Step, Lineage] | None:
    """The last step, if it trains the same parameters without noise, and noise was last seen in the run's first half."""
    if last.tape.parameter_ids() != vae.tape.parameter_ids() or not last.finite or until >= last.index / 2:
        return None
    try:
        lineages.find(last.tape)  # a VAE's too: a batch of another size
    except (lineages.NoVAE, ReplayFailed):
        return _deterministic(last)
    return None


def _deterministic(step: Step) -> tuple[Step, Lineage] | None:
    try:
        return step, lineages.find_deterministic(step.tape)
    except (lineages.NoVAE, ReplayFailed):
        return None
