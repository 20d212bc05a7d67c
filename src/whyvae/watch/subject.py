"""The subject of an examination: a user's VAE in motion, as the watcher saw it."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from whyvae.watch import lineage as lineages
from whyvae.watch.lineage import Dependencies, Lineage
from whyvae.watch.replay import Replay
from whyvae.watch.step import Decoded, Log, Optimizer, Shown, Step
from whyvae.watch.tape import Tape

Feed = dict[int, Tensor]


class NothingSeen(Exception):
    """No VAE was seen; the message is one line for the user."""


@dataclass(slots=True)
class Named:
    """Where a parameter lives: `module` is the class name of the outermost module that owns it."""

    name: str
    module: str


@dataclass
class Subject:
    """Everything an examination may look at. Built by `Subject.of`."""

    steps: list[Step]
    main: Step
    lineage: Lineage
    log: Log
    optimizers: list[Optimizer]
    held_out_inputs: list[tuple[int, Tensor]]
    decoded: list[Decoded]
    shown: list[Shown]
    count: int
    script: str = ""
    cost: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, watcher: object, script: str = "") -> Subject:
        """What `watcher` saw.

        Raises:
            NothingSeen: nothing was trained, or what was trained is not a VAE.
        """
        from whyvae.watch.watcher import Watcher  # noqa: PLC0415 - Watcher does not need Subject

        assert isinstance(watcher, Watcher)  # noqa: S101
        if not watcher.steps:
            raise NothingSeen(_nothing(watcher.backwards))
        main, found = _main_step(watcher.steps)
        return cls(
            watcher.steps, main, found, watcher.log, list(watcher.optimizers.values()), watcher.onlooker.held_out,
            watcher.onlooker.decoded, watcher.shown, watcher.count, script,
            {"training_s": watcher.seconds - watcher.spent, "watching_s": watcher.spent},
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
        """The main step at the parameters the run ended with; at the last finite ones if it broke."""
        if self.broken:
            return Replay(self.tape, self._last_finite)
        return Replay(self.tape)

    @cached_property
    def broken(self) -> bool:
        """Did the run end with parameters that are not finite?"""
        live = [s.value for s in self.tape.slots if s.trainable and s.value is not None]
        return not all(bool(torch.isfinite(p).all()) for p in live)

    @cached_property
    def _last_finite(self) -> dict[int, Tensor]:
        """Slot of the main tape -> the latest finite value known (the recorded step's, or an earlier one's)."""
        mine = {id(s.value): s.index for s in self.tape.slots if s.trainable and s.value is not None}
        for step in reversed(self.steps):
            values = {
                mine[id(slot.value)]: step.parameters[slot.index]
                for slot in step.tape.slots
                if slot.index in step.parameters and id(slot.value) in mine
            }
            if len(values) == len(mine) and all(bool(torch.isfinite(v).all()) for v in values.values()):
                return values
        generator = torch.Generator().manual_seed(3)
        return {  # the audit holds at any parameters: small random ones then
            i: 0.05 * torch.randn(self.tape.slots[i].shape, generator=generator) for i in mine.values()
        }

    # ------------------------------------------------------------------ data
    @cached_property
    def fed_slots(self) -> list[int]:
        """Slots of the main tape through which a step's own data enters."""
        return _fresh(self.tape)

    @cached_property
    def train(self) -> list[Feed]:
        """One feed a recorded step: its data, for the main tape."""
        key, shapes = self.tape.shape_key(), [self.tape.slots[s].shape for s in self.fed_slots]
        feeds = []
        for step in self.steps:
            slots = _fresh(step.tape)
            same = step.tape.shape_key() == key and [step.tape.slots[s].shape for s in slots] == shapes
            if same:
                feeds.append({
                    mine: step.tape.slots[theirs].value.double()  # type: ignore[union-attr]
                    if step.tape.slots[theirs].dtype.is_floating_point else step.tape.slots[theirs].value
                    for mine, theirs in zip(self.fed_slots, slots, strict=True)
                })  # fmt: skip
        return feeds  # type: ignore[return-value]

    @cached_property
    def held_out(self) -> list[Feed]:
        """Feeds from batches the script evaluated without gradients, where encoder input and target are the same data."""
        found: list[Feed] = []
        slots = self.tape.slots
        known = self._rows_of_training()
        for slot, rows in self._held_out_rows():
            target = self.lineage.target
            if target is None or not self._target_is_input(slot):
                return []
            size = slots[slot].shape[0]
            new = [i for i in range(rows.shape[0]) if _row_key(rows[i]) not in known]
            rows = rows[new]
            for start in range(0, rows.shape[0] - size + 1, size):
                batch = rows[start : start + size].double()
                found.append({slot: batch, target: batch.reshape(slots[target].shape)})
        return found

    def _rows_of_training(self) -> set[int]:
        """Examples seen in training, so that evaluating on training data is not taken for held-out data."""
        entering = {slot for slot, _ in self.held_out_inputs}
        known: set[int] = set()
        for slot in entering:
            for feed in self.train:
                with torch.no_grad():
                    rows = self.replay.run([slot], feed=feed)[slot]
                known.update(_row_key(row) for row in rows)
        return known

    def _held_out_rows(self) -> Iterator[tuple[int, Tensor]]:
        slots = self.tape.slots
        by_slot: dict[int, list[Tensor]] = {}
        position = {s: i for i, s in enumerate(self._entering)}
        for slot, value in self.held_out_inputs:
            mine = self._entering_of(slot, position)
            if mine is not None and slots[mine].shape[1:] == tuple(value.shape[1:]):
                by_slot.setdefault(mine, []).append(value)
        for slot, values in by_slot.items():
            yield slot, torch.cat(values)

    @cached_property
    def _entering(self) -> list[int]:
        from whyvae.watch.onlooker import entries  # noqa: PLC0415

        return list(entries(self.tape)[0].values())

    def _entering_of(self, slot: int, position: dict[int, int]) -> int | None:
        """The main tape's slot for an entering slot of the first tape (same weight, same position)."""
        from whyvae.watch.onlooker import entries  # noqa: PLC0415

        if slot in position:
            return slot
        for step in self.steps:
            theirs = entries(step.tape)[0]
            weight = next((w for w, s in theirs.items() if s == slot), None)
            if weight is not None:
                return entries(self.tape)[0].get(weight)
        return None

    def _target_is_input(self, slot: int) -> bool:
        target = self.lineage.target
        if target is None or self.tape.slots[target].numel != self.tape.slots[slot].numel:
            return False
        with torch.no_grad():
            values = self.replay.run([slot, target])
        a, b = values[slot].flatten(), values[target].flatten()
        return bool(torch.equal(a, b))

    # ------------------------------------------------------------------ words
    @cached_property
    def names(self) -> dict[int, Named]:
        """id of a parameter -> its name, from the modules alive."""
        found: dict[int, Named] = {}
        sizes: dict[int, int] = {}
        wanted = {id(s.value) for s in self.tape.slots if s.trainable}
        for thing in gc.get_objects():
            if issubclass(type(thing), nn.Module):  # isinstance would wake lazy proxies
                mine = [(n, id(p)) for n, p in thing.named_parameters()]  # type: ignore[attr-defined]
                for name, key in mine:
                    if key in wanted and sizes.get(key, -1) < len(mine):
                        found[key] = Named(name, type(thing).__name__)
                        sizes[key] = len(mine)
        return found

    @cached_property
    def model(self) -> str:
        owners = Counter(n.module for n in self.names.values())
        encoder_decoder = [m for m, _ in owners.most_common(2)]
        return " + ".join(encoder_decoder) if encoder_decoder else "functions without a module"

    def limits(self) -> list[str]:
        return list(self.lineage.notes)


def _nothing(backwards: int) -> str:
    if backwards == 0:
        return "no training was seen: the script called no `backward`"
    return "no training step could be recorded"


def _main_step(steps: list[Step]) -> tuple[Step, Lineage]:
    """The last finite step of the most common program that is a VAE's."""
    order = Counter(step.tape.shape_key() for step in steps)
    reason = lineages.NoVAE("")
    best: tuple[Step, Lineage] | None = None
    for key, _ in order.most_common(4):
        same = [s for s in steps if s.tape.shape_key() == key]
        step = next((s for s in reversed(same) if s.finite), same[-1])
        try:
            return step, lineages.find(step.tape)
        except lineages.NoVAE as no:
            reason = no
            best = best or _deterministic(step)
    if best is not None:
        return best
    raise NothingSeen(f"no VAE was seen: {reason}")


def _deterministic(step: Step) -> tuple[Step, Lineage] | None:
    try:
        return step, lineages.find_deterministic(step.tape)
    except lineages.NoVAE:
        return None


def _fresh(tape: Tape) -> list[int]:
    """External tensors that a step brings with it: not parameters, not state it carries along."""
    used = {r for op in tape.ops for r in op.reads}
    return [
        s.index for s in tape.slots
        if s.index in used and s.external and not s.trainable and not s.parameter and s.live is None
        and s.value is not None and len(s.shape) > 0 and s.numel > 1
    ]  # fmt: skip


def _row_key(row: Tensor) -> int:
    return hash(row.detach().float().contiguous().numpy().tobytes())
