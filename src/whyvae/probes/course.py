"""The recorded step's loss, trained further: the user's own objective, replayed with new noise."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor

Feed = dict[int, Tensor]
LONGEST = 5.0  # times the typical gradient's norm; longer ones are cut, since the user's own clipping is on no tape
CLOSE = 4  # steps apart: a way is nearly straight
LONG_AGO = 10_000  # optimiser steps behind us: the moments need no correction for a start from zero
# One call steps all parameters: trials of small models take a sixth less time.
FUSED = (torch.optim.Adam, torch.optim.AdamW)
_CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD, "RMSprop": torch.optim.RMSprop, "AdamW": torch.optim.AdamW,
}  # fmt: skip  # all others (LBFGS, NAdam, somebody's own) are replaced by Adam


class Course:
    """The main step's loss as a function of parameters, batch and noise, and an optimiser like the user's."""

    def __init__(self, subject: Any) -> None:
        self.subject, self.tape, self.replay = subject, subject.tape, subject.trial_replay
        self.groups = _groups(subject)
        self.slots = [i for slots, _ in self.groups for i in slots]
        users = subject.optimizers[0] if subject.optimizers else None
        self.optimizer = _CLASSES.get(users.name if users else "", torch.optim.Adam)
        ours = {"params", "lr", "fused", "foreach", "capturable", "differentiable"}
        allowed = set(inspect.signature(self.optimizer).parameters) - ours
        self.settings = {k: v for k, v in (users.settings if users else {}).items() if k in allowed}
        self._moments: list[tuple[Tensor, Tensor]] = []
        self._longest = math.inf

    @property
    def rate(self) -> float:
        return max((rate for _, rate in self.groups), default=0.0)

    @contextmanager
    def alone(self, feed: Feed) -> Iterator[None]:
        """Inside, torch works with one thread if that is faster: for small models, threads mostly wait."""
        threads, spent = torch.get_num_threads(), {}
        self.gradients(feed, 0)  # the first one is always slow
        for count in (threads, 1):
            torch.set_num_threads(count)
            begin = time.perf_counter()
            self.gradients(feed, 0)
            spent[count] = time.perf_counter() - begin
        torch.set_num_threads(min(spent, key=lambda count: spent[count]))
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    @contextmanager
    def branched(self, start: Feed | None = None) -> Iterator[None]:
        """Inside, parameters are copies (of `start`) that may be trained; afterwards they are what they were."""
        values = {**self.replay.parameters, **(start or {})}
        with self.replay.holding(
            {i: p.detach().to(self.replay.dtype, copy=True).requires_grad_() for i, p in values.items()}
        ):
            yield

    def run(self, feed: Feed, noise: int, also: Sequence[int] = ()) -> tuple[Tensor, dict[int, Tensor]]:
        """(sum of what `backward` was called on, values of the slots in `also`), with noise number `noise`."""
        lineage, fed = self.subject.lineage, dict(feed)
        if lineage.noise_op < 0 <= lineage.eps:  # noise from outside torch is fed, not drawn
            generator = torch.Generator().manual_seed(noise)
            shape = self.tape.slots[lineage.eps].shape
            fed[lineage.eps] = torch.randn(shape, generator=generator, dtype=torch.float64)
        values = self.replay.run([*self.tape.roots, *also], feed=fed, seed=noise)
        return torch.stack([values[root].sum() for root in self.tape.roots]).sum(), values

    def gradients(self, feed: Feed, noise: int) -> list[Tensor]:
        parameters = [self.replay.parameters[i] for i in self.slots]
        found = torch.autograd.grad(self.run(feed, noise)[0], parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    def prime(self, feeds: Sequence[Feed]) -> None:
        """The moments a running optimiser would hold here, from gradients of `feeds`: a restart is no event."""
        seen = [self.gradients(feed, 40_000 + i) for i, feed in enumerate(feeds)]
        self._longest = LONGEST * median(_norm(grads) for grads in seen)
        columns = [torch.stack(column) for column in zip(*seen, strict=True)]
        self._moments = [(column.mean(0), column.square().mean(0)) for column in columns]

    def train(self, feeds: Sequence[Feed], factor: float) -> Iterator[int]:
        """Trains in place at `factor` times the rates, the batches in turn; yields after each step.

        Without `prime`, from moments of 0 and with gradients as long as they are: the start of a run.
        """
        optimizer = self._started(factor)
        parameters = [self.replay.parameters[i] for i in self.slots]
        step, order = 0, torch.Generator().manual_seed(1)
        while True:
            for i in torch.randperm(len(feeds), generator=order).tolist():
                grads = self.gradients(feeds[i], step)
                share = min(1.0, self._longest / max(_norm(grads), 1e-300))
                for p, g in zip(parameters, grads, strict=True):
                    p.grad = g * share
                optimizer.step()
                step += 1
                yield step

    def _started(self, factor: float) -> torch.optim.Optimizer:
        values = self.replay.parameters
        groups = [{"params": [values[i] for i in slots], "lr": factor * rate} for slots, rate in self.groups]
        settings = {**self.settings, "fused": True} if self.optimizer in FUSED else self.settings
        optimizer = self.optimizer(groups, **settings)
        for i, (mean, square) in zip(self.slots, self._moments, strict=False):
            optimizer.state[values[i]].update(self._state(mean.clone(), square.clone()))
        return optimizer

    def _state(self, mean: Tensor, square: Tensor) -> dict[str, Any]:
        if self.optimizer is torch.optim.SGD:
            momentum = self.settings.get("momentum", 0)
            return {"momentum_buffer": mean / (1 - momentum)} if momentum else {}
        if self.optimizer is torch.optim.RMSprop:
            zero = {"step": torch.tensor(float(LONG_AGO)), "square_avg": square}
            return {**zero, "momentum_buffer": torch.zeros_like(mean), "grad_avg": mean}
        state = {"step": torch.tensor(float(LONG_AGO)), "exp_avg": mean, "exp_avg_sq": square}
        return {**state, "max_exp_avg_sq": square.clone()} if self.settings.get("amsgrad") else state


def _norm(grads: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(g.square().sum()) for g in grads))


def _groups(subject: Any) -> list[tuple[list[int], float]]:
    """(slots of the parameters, largest rate they were stepped with), one for each optimiser."""
    slots, mine = subject.tape.slots, list(subject.replay.parameters)
    if not subject.optimizers:
        return [(mine, moved_per_step(subject))]
    groups = []
    for optimizer in subject.optimizers:
        chosen = [i for i in mine if id(slots[i].value) in optimizer.parameters]
        mine = [i for i in mine if i not in chosen]
        if chosen:
            rate = optimizer.largest_lr or optimizer.lr or moved_per_step(subject)
            groups.append((chosen, 1e-3 if optimizer.name == "LBFGS" else rate))
    return groups


def moved_per_step(subject: Any) -> float:
    """Mean distance that a parameter moved in one step, between recorded steps close to each other; 0 if there are none."""
    moved = []
    for a, b in zip(subject.steps, subject.steps[1:], strict=False):
        before, after = _by_identity(a), _by_identity(b)
        common = before.keys() & after.keys()
        if common and 0 < b.index - a.index <= CLOSE:
            way = sum(float((after[i] - before[i]).abs().sum()) for i in common)
            moved.append(way / sum(before[i].numel() for i in common) / (b.index - a.index))
    return median(moved) if moved else 0.0


def _by_identity(step: Any) -> dict[int, Tensor]:
    """id of a parameter -> its value before `step` (slots of two steps are numbered apart)."""
    return {id(step.tape.slots[i].value): value for i, value in step.parameters.items()}
