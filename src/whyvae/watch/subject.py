"""The subject of an examination: a user's VAE in motion, as the watcher saw it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from whyvae.watch.arrays import Array
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.draws import sane_parameters
from whyvae.watch.feeds import earliest_parameters, feeds_of, further_feeds
from whyvae.watch.lineage import Lineage
from whyvae.watch.names import Named
from whyvae.watch.numbers import Break, first_break, told_before_the_end, unfinished_step
from whyvae.watch.onlooker import entries
from whyvae.watch.parallel import side_by_side
from whyvae.watch.recorder import data_shapes, not_finite
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.step import Decoded, Left, Log, Optimizer, Shown, Step
from whyvae.watch.tape import Tape
from whyvae.watch.trainings import NothingSeen, chosen_training, entered, trainings_of

Feed = dict[int, Tensor]
TRAINING = 3  # times the cost of a run forward, which a step of training has
# Floating-point operations of a training step from which on trainings are replayed in float32, where a convolution is four
# times as fast (one core: 110 GFLOP/s instead of 27); gains are differences of whole nats.
COSTLY = 2.5e8
UNSEEN = 0.95  # of what is evaluated: held-out data may share an example or two with what was trained on


@dataclass
class Subject:
    """Everything an examination may look at. Built by `Subject.of`."""

    steps: list[Step]
    main: Step
    lineage: Lineage
    log: Log
    optimizers: list[Optimizer]
    held_out_inputs: list[tuple[int, Tensor]]  # (id of the weight it met, value)
    decoded: list[Decoded]
    shown: list[Shown]
    count: int
    names: dict[int, Named]  # id of a parameter -> its name
    script: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    examples: int = 0  # in the largest data set that a DataLoader gave training batches from
    arrays: list[Array] = field(default_factory=list)  # held by the functions that called the decoder last
    left: tuple[Left, ...] = ()  # what left torch last of what they made
    glimpses: list[tuple[int, Tensor]] = field(default_factory=list)  # as held_out_inputs, of steps not recorded
    raised: str = ""  # the error that ended the script, where it says that a number was none

    @classmethod
    def of(cls, watcher: object, script: str = "") -> Subject:
        """What `watcher` saw.

        Raises:
            NothingSeen: nothing was trained, or what was trained is not a VAE.
        """
        from whyvae.watch.watcher import Watcher

        assert isinstance(watcher, Watcher)  # noqa: S101
        steps = side_by_side(_with_unfinished(watcher))
        if not steps:
            told = told_before_the_end(watcher.unfinished) if watcher.backwards == 0 else ""
            raise NothingSeen(_nothing(watcher.backwards, watcher.error, watcher.functional.unseen) + told)
        trees, seen = watcher.functional.trees, watcher.outside.onlooker
        names = {**trees.settle(steps), **watcher.names}
        optimizers, decoded = list(watcher.optimizers.values()), seen.decoded
        trainings = trainings_of(steps, optimizers)
        chosen, main, found = chosen_training(trainings, decoded)
        if len(trainings) > 1:  # of several models one is looked at, as if the others had not been
            optimizers = chosen.optimizers or optimizers
            decoded = [call for call in decoded if entered(call, chosen)] or decoded
        end = chosen.end(main)
        count = watcher.count if end is None else end - chosen.start
        return cls(
            chosen.steps, main, found, watcher.log.part(chosen.start, end), optimizers, trees.settled(seen.held_out),
            decoded, watcher.outside.pictures.shown, count, names, script,
            {"training_s": watcher.seconds - watcher.spent, "watching_s": watcher.spent}, watcher.examples,
            seen.arrays(), seen.last_left, watcher.glimpses.kept,
        )  # fmt: skip

    # ------------------------------------------------------------------ the model, as functions
    @property
    def tape(self) -> Tape:
        return self.main.tape

    @cached_property
    def deps(self) -> Dependencies:
        return Dependencies(self.tape)

    @cached_property
    def replay(self) -> Replay:
        """The main step at the parameters the run ended with; at the earliest ones known if it broke."""
        return Replay(self.tape, (self.earliest or sane_parameters(self.tape)) if self.broken else None)

    @cached_property
    def trial_replay(self) -> Replay:
        """`replay` for what runs it hundreds of times: in float32 where a step is costly."""
        if self.broken or not self.train:
            return self.replay
        try:
            costly = TRAINING * self.replay.flops(self.tape.roots, self.train[0]) > COSTLY
        except ReplayFailed:
            return self.replay
        return Replay(self.tape, dtype=torch.float32) if costly else self.replay

    @cached_property
    def broken(self) -> bool:
        """Did the run end with parameters that are not finite, on their way there, or whose loss is no number?"""
        return sane_parameters(self.tape) is not None or self.ends_in is not None

    @cached_property
    def ends_in(self) -> Break | None:
        """Where the loss of the main step, or its gradient, stops being a number at the parameters the run ended with."""
        return first_break(self.tape)

    @cached_property
    def earliest(self) -> dict[int, Tensor] | None:
        """Slot of the main tape -> the earliest value kept of that parameter; None where none were kept."""
        return earliest_parameters(self.tape, self.steps)

    # ------------------------------------------------------------------ data
    @cached_property
    def train(self) -> list[Feed]:
        """One feed a recorded step: its data, for the main tape."""
        return feeds_of(self.deps, self.steps)

    @cached_property
    def further(self) -> list[Feed]:
        """Feeds of training steps that were not recorded, where all that a step is given is what enters the encoder."""
        mine = entries(self.tape)[0]
        seen = [(mine[weight], value) for weight, value in self.glimpses if weight in mine]
        return further_feeds(self.deps, self.train, seen)

    @cached_property
    def held_out(self) -> list[Feed]:
        """Feeds from batches the script evaluated without gradients, where encoder input and target are the same data."""
        found: list[Feed] = []
        slots, target = self.tape.slots, self.lineage.target
        for slot, values in self._evaluated().items():
            if target is None or not self._target_is_input(slot):
                return []
            known = self._rows_of_training(slot)
            new = [value[[i for i, row in enumerate(value) if _row_key(row) not in known]] for value in values]
            # a script may evaluate on training data too, beside the others
            kept = [(n, v) for n, v in zip(new, values, strict=True) if len(n) > len(v) / 2]
            if not kept:
                continue
            rows, count = torch.cat([n for n, _ in kept]), sum(len(v) for _, v in kept)
            if rows.shape[0] < UNSEEN * count:
                continue  # it evaluates on what it trains on: the rest was trained on in steps not recorded
            size = slots[slot].shape[0]
            for start in range(0, rows.shape[0] - size + 1, size):
                part = rows[start : start + size]
                batch = part.double() if part.is_floating_point() else part
                found.append({slot: batch, target: batch.reshape(slots[target].shape)})
        return found

    def _evaluated(self) -> dict[int, list[Tensor]]:
        """Slot of the main tape through which data enters the encoder -> what entered there without gradients."""
        by_slot: dict[int, list[Tensor]] = {}
        mine = entries(self.tape)[0]
        for weight, value in self.held_out_inputs:
            slot = mine.get(weight)
            shaped = slot is not None and self.tape.slots[slot].shape[1:] == tuple(value.shape[1:])
            if slot is not None and shaped and self._enters_at(slot, value):
                by_slot.setdefault(slot, []).append(value)
        return by_slot

    def _enters_at(self, slot: int, value: Tensor) -> bool:
        """Is it what enters at `slot`, and not the past that a decoder is given through the same embedding?"""
        others = self._beside.get(slot, [])
        if value.is_floating_point() or value.dim() < 2 or not others:
            return True
        mine, *theirs = (_known_places(value, torch.cat([*self._seen_at(s)])) for s in (slot, *others))
        return mine > max(theirs)

    @cached_property
    def _beside(self) -> dict[int, list[int]]:
        """Slot through which data enters the encoder -> further slots of its shape that meet the same weight."""
        found: dict[int, list[int]] = {}
        slots, mine = self.tape.slots, entries(self.tape)[0]
        for op in self.tape.ops:
            for read in op.reads:
                slot = mine.get(id(slots[read].value)) if slots[read].trainable else None
                if slot is not None and op.reads[0] != slot and slots[op.reads[0]].shape == slots[slot].shape:
                    found.setdefault(slot, []).append(op.reads[0])
        return found

    def _seen_at(self, slot: int) -> Iterator[Tensor]:
        """What stands at `slot` in each recorded step."""
        for feed in self.train:
            with torch.no_grad():
                yield self.replay.run([slot], feed=feed)[slot]

    def _rows_of_training(self, slot: int) -> set[int]:
        """Examples seen in training, so that evaluating on training data is not taken for held-out data."""
        return {_row_key(row) for values in self._seen_at(slot) for row in values}

    def _target_is_input(self, slot: int) -> bool:
        target = self.lineage.target
        if target is None or self.tape.slots[target].numel != self.tape.slots[slot].numel:
            return False
        with torch.no_grad():
            values = self.replay.run([slot, target])
        a, b = values[slot].flatten(), values[target].flatten()
        return bool(torch.equal(a, b))

    # ------------------------------------------------------------------ words
    @property
    def batch(self) -> int:
        """Examples in the main step."""
        shape = self.tape.slots[self.lineage.z].shape
        data = self.tape.slots[self.lineage.data].shape if self.lineage.data >= 0 else ()
        # the last state of one recurrent layer, [1, B, H], beside data with time first
        late = shape[:1] == (1,) and len(data) > 2 and shape[1:2] == data[1:2]
        if len(shape) > 2 and data and shape[0] != data[0] and (shape[1] == data[0] or late):
            return shape[1]
        return shape[0] if len(shape) > 1 else 1

    @property
    def model(self) -> str:
        """Class names of the outermost modules that own the model's parameters."""
        owners = Counter(
            self.names[id(s.value)].module for s in self.tape.slots if s.trainable and id(s.value) in self.names
        )
        del owners[""]  # a tree of parameters has names, and no owner
        return " + ".join(name for name, _ in owners.most_common(3)) or "functions without a module"

    def limits(self) -> list[str]:
        return list(self.lineage.notes)

    def facts(self) -> dict[str, Any]:
        """The `subject` object of the record: what was trained, without a judgement."""
        slots, lineage = self.tape.slots, self.lineage
        shape = list(slots[lineage.data].shape[1:]) if lineage.data >= 0 else []
        return {
            "script": self.script, "model": self.model, "posterior": f"{lineage.posterior}, {lineage.latents} units",
            "steps": self.count, "data": {"shape": shape},
        }  # fmt: skip


def _with_unfinished(watcher: Any) -> list[Step]:
    """The recorded steps, and after them the one whose loss was no number before its backward was called. Of a step that
    did not get to a loss, the last one keeps how many numbers of its data were none.
    """
    last = watcher.unfinished
    step = None if last is None else unfinished_step(last, watcher.steps)
    if step is not None:
        return [*watcher.steps, step]
    if last is not None and watcher.steps:
        *before, end = watcher.steps
        left_out = not_finite(last.tape, data_shapes(end.tape), set())
        return [*before, replace(end, refused=end.refused + left_out)]
    return list(watcher.steps)


def _nothing(backwards: int, error: Exception | None, inside: int) -> str:
    if backwards == 0 and inside:
        return (
            "no training was seen: its gradients are taken inside another transform of torch.func (vmap, a second grad)"
        )
    if backwards == 0:
        return "no training was seen: the script called no `backward`"
    return "no training step could be recorded" + (f" ({error!r})" if error else "")


def _known_places(rows: Tensor, known: Tensor) -> float:
    """Share of the classes in `rows` [n, ...] that `known` [m, ...] has at the same place of some example."""
    columns = zip(rows.flatten(1).unbind(1), known.flatten(1).unbind(1), strict=True)
    return float(torch.stack([torch.isin(a, b).double().mean() for a, b in columns]).mean())


def _row_key(row: Tensor) -> int:
    return hash(row.detach().float().contiguous().numpy().tobytes())
