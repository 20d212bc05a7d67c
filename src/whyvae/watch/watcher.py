"""Watches training as it happens, and leaves it bit for bit as it would have been.

A recorded step lasts from the end of one `Optimizer.step` to the `backward` (or backwards) before the next, so
it does not matter how, or whether, a module is called. Steps are recorded on a sparse schedule under a budget.
"""

from __future__ import annotations

import functools
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter

from whyvae.watch.custom import hold_custom_functions, see_custom_functions
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.functional import Event, Functional
from whyvae.watch.given import take_as_data
from whyvae.watch.glimpses import Glimpses
from whyvae.watch.left_over import LeftOver
from whyvae.watch.modes import compiling, put_on, take_off
from whyvae.watch.names import Named, Registry
from whyvae.watch.optimizers import Optimizers
from whyvae.watch.outside import Outside
from whyvae.watch.places import calling_place
from whyvae.watch.recorder import Recorder
from whyvae.watch.recordings import BUDGET, Recordings
from whyvae.watch.renewed import variables
from whyvae.watch.step import Log, Optimizer, Step
from whyvae.watch.tape import tensors_in
from whyvae.watch.warned import show_where_it_would_be_shown

SMALL_MODEL = 4_000_000  # parameters: up to this many, recorded steps keep the parameters' values too
MOST_FAILURES = 3  # of our own, before recording is given up


def _guarded(event: Callable[..., None]) -> Callable[..., None]:
    """A mistake of ours costs the recording, not the user's training."""

    @functools.wraps(event)
    def guarded(self: Watcher, *args: Any, **kwargs: Any) -> None:
        self.outside.ours += 1
        try:
            event(self, *args, **kwargs)
        except Exception as error:
            if os.environ.get("WHYVAE_DEBUG") == "1":
                raise
            self.error, self.failures = error, self.failures + 1
            self._drop()
        finally:
            self.outside.ours -= 1

    return guarded


class StopTraining(BaseException):
    """Ends the script from inside, when the asked number of steps is done."""


class Watcher:
    """Use as a context manager around training; afterwards `subject()` is what was seen.

    `ratio`: a step is recorded when it lies so many times as far as the last one, whatever that costs; two runs then keep
    the same steps. By default the clock decides.
    """

    def __init__(self, *, stop_after: int | None = None, budget: float = BUDGET, ratio: float | None = None) -> None:
        self.stop_after = stop_after
        self.recordings, self._optimizers = Recordings(budget, ratio), Optimizers()
        self.log = Log()
        self.names: dict[int, Named] = {}
        self.outside = Outside()
        self.glimpses = Glimpses(lambda: self.outside.onlooker.encoder)
        self.examples = 0  # in the largest data set that a DataLoader gave training batches from
        self.backwards = 0
        self._begin = time.perf_counter()
        self.seconds = 0.0  # of the run, ours included
        self.compiled = False
        self.error: Exception | None = None  # our own last mistake
        self.ended_by: BaseException | None = None  # what the watched code raised
        self.unfinished: Recorder | None = None  # what was being recorded when the script ended, before a backward
        self.failures = 0
        self._recorder: Recorder | None = None
        self._depth = 0
        self._marks: list[int] = []
        self._left = LeftOver()
        self._before: dict[int, Tensor] = {}
        self._undo: list[Callable[[], Any]] = []
        self._idle: frozenset[int] = frozenset()
        self._registry = Registry()
        self._met: set[int] = set()  # ids of the parameters of the models met so far
        self._parted = 0  # ops when a step was taken that this window's model has no part in; 0: none was
        self._parted_by = 0  # key of the optimiser that took it
        # keys of those after whose step the step of another follows from the same forward pass
        self._midway: set[int] = set()
        self.functional = Functional(
            Event(
                self.outside.trains,
                self._before_backward,
                self._after_transform,
                lambda: self._recorder,
                self._optimizers.parameters,
            ),
            self._registry,
        )
        self.outside.onlooker.known = self.functional.trees.known

    # ------------------------------------------------------------------ what was seen
    @property
    def steps(self) -> list[Step]:
        """Those recorded and kept, oldest first."""
        return self.recordings.steps

    @property
    def optimizers(self) -> dict[int, Optimizer]:
        return self._optimizers.known

    @property
    def count(self) -> int:
        """Optimiser steps done."""
        return self._optimizers.count

    @property
    def spent(self) -> float:
        """Seconds of our own in recorded steps."""
        return self.recordings.spent

    # ------------------------------------------------------------------ life
    def __enter__(self) -> Watcher:
        self._begin = time.perf_counter()
        self.recordings.begin()
        self._undo += self._registry.listen()
        self._undo += [
            register_optimizer_step_pre_hook(self._before_step).remove,
            register_optimizer_step_post_hook(self._after_step).remove,
            self._wrap(Tensor, "backward", lambda args: args[0]),
            self._wrap(torch.autograd, "backward", lambda args: args[0]),
            self._wrap(torch.autograd, "grad", lambda args: args[0], gradients_only=True),
            self._quiet_loader(),
            show_where_it_would_be_shown(),
            *self.functional.listen(),
        ]
        self.outside.listen()
        hold_custom_functions(self, held=True)
        mine = weakref.ref(self)  # the registration outlives us
        os.register_at_fork(after_in_child=lambda: _in_child(mine()))
        self._open(standby=True)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.ended_by = error
        if self._recorder is not None and not self._recorder.tape.roots:
            self.unfinished = self._recorder
        self._close(keep=True)
        self.glimpses.stop()
        self.outside.stop()
        for undo in self._undo:
            undo()
        self._undo.clear()
        hold_custom_functions(self, held=False)
        self.seconds = time.perf_counter() - self._begin

    def examine(self) -> Any:
        """The report on what was seen so far (a `whyvae.Report`).

        Raises:
            NotExamined: no VAE was trained while this watched.
        """
        from whyvae import api

        return api.examine_watched(self)

    # ------------------------------------------------------------------ recording
    def _open(self, *, standby: bool = False) -> None:
        self._recorder = Recorder(self.count, standby=standby)
        self._marks, self._parted = [], 0
        see_custom_functions(self._recorder)
        self.compiled = put_on(self._recorder) or self.compiled

    def _drop(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            take_off(recorder)
            see_custom_functions(None)

    @_guarded
    def _close(self, *, keep: bool) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        begin = time.perf_counter()
        take_off(recorder)
        see_custom_functions(None)
        self.recordings.spent += recorder.spent
        if self._parted and len(self._marks) == 1:  # no further loss of this step came: what follows is the next one's
            del recorder.tape.ops[self._parted :]
        if keep and recorder.tape.roots and not recorder.overflow:
            self._keep(recorder)
        self.recordings.spent += time.perf_counter() - begin

    def _keep(self, recorder: Recorder) -> None:
        tape = recorder.finished()
        take_as_data(tape, {p for optimizer in self.optimizers.values() for p in optimizer.parameters})
        tape.compiled = self.compiled or compiling()
        step = self._left.step = Step(tape, recorder.tape.step, float("nan"), self._left.share())
        step.loss = self._root_value
        step.parameters = {s: v for s, v in self._before.items() if tape.slots[s].value is not None}
        step.without_gradient = self._idle
        step.backward_at = self._backward_at
        step.refused = recorder.refused
        mine = tape.parameter_ids()
        own = [o for o in self.optimizers.values() if not mine.isdisjoint(o.parameters)]
        if any(o.maximizes for o in own):
            tape.negate()
            step.loss = -self._root_value
        step.lr = next((o.lr for o in own or self.optimizers.values()), float("nan"))
        self.recordings.keep(step)
        if not self.outside.onlooker.encoder or (own and self._met.isdisjoint(mine)):  # the first, or another model
            self.outside.meet(tape)
            self.names |= self._registry.names(mine)
            self._met |= mine

    def _due(self) -> bool:
        return self.failures < MOST_FAILURES and self.recordings.due(self.count)

    # ------------------------------------------------------------------ events
    def _wrap(
        self,
        owner: Any,
        name: str,
        roots: Callable[[tuple[Any, ...]], Any],
        *,
        gradients_only: bool = False,
    ) -> Callable[[], None]:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self._depth or (gradients_only and not _trains(args, kwargs)):
                return original(*args, **kwargs)
            found = roots(args) if args else kwargs.get("tensors", kwargs.get("outputs"))
            self._depth += 1
            try:
                asked = args[1] if gradients_only and len(args) > 1 else kwargs.get("inputs")
                self._before_backward(list(tensors_in(found)), list(tensors_in(asked)))
                result = original(*args, **kwargs)
            finally:
                self._depth -= 1
            self._after_backward()
            return result

        wrapper.__name__, wrapper.__doc__ = name, original.__doc__
        wrapper.__wrapped__ = original  # type: ignore[attr-defined]
        setattr(owner, name, wrapper)
        return lambda: setattr(owner, name, original)

    @_guarded
    def _before_backward(self, roots: list[Tensor], asked: list[Tensor] | None = None) -> None:
        self.backwards += 1
        self.glimpses.stop()
        self.outside.trains()
        if roots:
            self.log.add(self.count, roots[0])
        by_hand = asked is not None and roots and not self.optimizers
        if by_hand:
            self.functional.trees.root = roots[0]
        recorder = self._recorder
        if recorder is None:
            if self._left.before:  # steps from here on follow other gradients
                self._left = LeftOver()
            return
        begin = time.perf_counter()
        if by_hand and not recorder.tape.roots:
            with _paused(recorder):
                self.functional.trees.meet_variables(recorder, asked or [])
        self._rooted(recorder, roots)
        self.recordings.spent += time.perf_counter() - begin

    def _rooted(self, recorder: Recorder, roots: list[Tensor]) -> None:
        slots = [s for s in (recorder.slot_of(r) for r in roots) if s is not None]
        if recorder.tape.roots and not self._same_graph(recorder, slots):
            self._close(keep=True)
            return
        if not slots:
            return
        if not recorder.tape.roots:
            self._backward_at = calling_place()
            self._root_value = float(roots[0].detach().sum())
            self._left = LeftOver(self._gradient_norms())
            self._before = self._snapshot(recorder)
        if self._parted:  # the loss so far was another network's, and no step begins where that one's ends
            self._midway.add(self._parted_by)
            recorder.tape.roots.clear()
            self._root_value, self._backward_at = float(roots[0].detach().sum()), calling_place()
        recorder.tape.roots.extend(slots)
        recorder.count_anew()
        self._marks.append(len(recorder.tape.ops))

    @_guarded
    def _after_backward(self) -> None:
        self.outside.before_step = bool(self.optimizers)
        if not self.optimizers:  # parameters updated by hand: a backward is a step
            self._stepped_by_hand()
        if self._recorder is not None and self._marks:
            self._idle = self._without_gradient()
        if self._recorder is not None and len(self._marks) == 1 and not self._left.after:
            self._left.after = self._gradient_norms()

    def _stepped_by_hand(self) -> None:
        self._optimizers.count += 1
        if self.stop_after is not None and self.count >= self.stop_after:
            raise StopTraining
        self._next()

    def _next(self) -> None:
        """A step begins: recorded, or looked at, or neither."""
        if self._recorder is not None:
            return
        if self._due():
            self._open()
        else:
            self.glimpses.look(self.count)

    @_guarded
    def _after_transform(self, leaves: list[Tensor], gradients: list[Tensor], stepped: bool) -> None:
        """After `torch.func.grad` by `leaves`, which an optimiser steps (`stepped`) or the user: it leaves no `.grad`."""
        self.outside.before_step, self._left = stepped, LeftOver()
        if not stepped:
            self._close(keep=True)
            self._stepped_by_hand()
        elif self._recorder is not None:
            with _paused(self._recorder):
                reached = {t.data_ptr() for t, g in zip(leaves, gradients, strict=True) if bool(g.any())}
            optimised = self._optimizers.parameters()
            self._idle = frozenset(id(p) for p in optimised if p.data_ptr() not in reached)

    def _same_graph(self, recorder: Recorder, slots: list[int]) -> bool:
        """Does a further backward start from what was computed, with gradients, before the first one?"""
        deps, tape, first = Dependencies(recorder.tape), recorder.tape, self._marks[0]
        todo, seen = list(slots), set(slots)
        while todo:
            position = deps.producer.get(todo.pop())
            if position is None:
                continue
            if position < first:
                return True
            reads = [r for r in tape.ops[position].reads if r not in seen]
            new = [r for r in reads if tape.slots[r].requires_grad and not tape.slots[r].leaf]
            seen.update(new)
            todo.extend(new)
        return False

    def _without_gradient(self) -> frozenset[int]:
        """ids of optimised parameters that backward left without a gradient."""
        with _paused(self._recorder):
            return frozenset(id(p) for p in self._optimizers.parameters() if p.grad is None or not bool(p.grad.any()))

    def _gradient_norms(self) -> dict[int, float]:
        """Norms of the gradients of the parameters in this step (not of another model's, trained before), by the key of the
        optimiser; of the step's own, by 0, where they are stepped by hand.
        """
        used = set() if self._recorder is None else {id(s.value) for s in self._recorder.tape.slots if s.trainable}
        groups = {k: o.alive for k, o in self.optimizers.items() if not used.isdisjoint(o.parameters)}
        root = self.functional.trees.root
        # those of this step: what the last one made them from keeps its own
        if not any(groups.values()) and root is not None:
            groups = {0: variables(root)}
        with torch.no_grad(), _paused(self._recorder):
            return {
                key: sum(float(p.grad.float().norm()) ** 2 for p in parameters if p.grad is not None) ** 0.5
                for key, parameters in groups.items()
            }

    def _snapshot(self, recorder: Recorder) -> dict[int, Tensor]:
        live = [s for s in recorder.tape.slots if s.trainable and s.value is not None]
        if sum(s.numel for s in live) > SMALL_MODEL and self.steps:
            return {}
        with torch.no_grad(), _paused(recorder):
            return {s.index: s.value.detach().clone() for s in live if s.value is not None}

    @_guarded
    def _before_step(self, optimizer: Any, *_: object) -> None:
        self.outside.in_step += 1
        self._optimizers.meet(optimizer)
        recorder = self._recorder
        self._left.stepped(self._optimizers.key(optimizer))
        if recorder is not None and recorder.tape.roots:
            if self._parted or not self._apart(recorder, optimizer):
                self._close(keep=True)
            else:  # what gradients the rest still holds is for its own optimiser to clear
                self._parted, self._left = len(recorder.tape.ops), LeftOver()
                self._parted_by = self._optimizers.key(optimizer)

    def _apart(self, recorder: Recorder, optimizer: Any) -> bool:
        """Does the loss leave out what was computed with parameters that another optimiser is to step (a critic is shown
        detached samples)? The loss of the rest may follow from the same forward pass, after this step.
        """
        tape, deps = recorder.tape, Dependencies(recorder.tape)
        reached, todo = set(tape.roots), list(tape.roots)
        while todo:
            position = deps.producer.get(todo.pop())
            reads = () if position is None else tape.ops[position].reads
            new = [r for r in reads if r not in reached and tape.slots[r].requires_grad]
            reached.update(new)
            todo.extend(new)
        used = {r for op in tape.ops for r in op.reads}
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        rest = [
            s for s in tape.slots if s.trainable and s.requires_grad and s.index in used and id(s.value) not in mine
        ]
        return not reached.issuperset(s.index for s in rest)

    @_guarded
    def _after_step(self, optimizer: Any, *_: object) -> None:
        self.outside.in_step = max(0, self.outside.in_step - 1)
        self.outside.before_step = False
        if self._recorder is not None and self._recorder.tape.roots and not self._parted:  # an LBFGS closure ran inside
            self._close(keep=True)
        self._optimizers.stepped(optimizer)
        self.outside.count = self.count
        self.outside.pictures.look()
        if self.stop_after is not None and self.count >= self.stop_after:
            raise StopTraining
        if self._optimizers.key(optimizer) not in self._midway:
            self._next()

    def _quiet_loader(self) -> Callable[[], None]:
        """Collating and transforming examples is not part of the step."""
        original = _BaseDataLoaderIter.__next__
        last = [0]  # id, not the iterator: kept alive it would keep its workers

        def fetch(loader: Any) -> Any:
            if id(loader) != last[0] and torch.is_grad_enabled():
                last[0] = id(loader)
                self._count_examples(loader)
            self.outside.onlooker.paused += 1
            try:
                with _paused(self._recorder):
                    return original(loader)
            except StopIteration:  # evaluation, or a sample, may follow
                self.outside.open()
                raise
            finally:
                self.outside.onlooker.paused -= 1

        _BaseDataLoaderIter.__next__ = fetch  # type: ignore[method-assign, assignment]
        return lambda: setattr(_BaseDataLoaderIter, "__next__", original)

    def _count_examples(self, loader: Any) -> None:
        """A data set without a length (a stream) or with a wrong one is no mistake."""
        try:
            self.examples = max(self.examples, len(loader._dataset))  # noqa: SLF001 - the iterator has no other
        except Exception:  # noqa: BLE001 - the user's `__len__`
            return


def watch(*, budget: float = BUDGET) -> Watcher:
    """Watches whatever is trained inside the `with` block: `with whyvae.watch() as watcher: train()`."""
    return Watcher(budget=budget)


def _trains(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Does this `torch.autograd.grad` ask for gradients of parameters, to step with them?"""
    inputs = args[1] if len(args) > 1 else kwargs.get("inputs")
    return not kwargs.get("create_graph") and any(t.is_leaf for t in tensors_in(inputs))


@contextmanager
def _paused(recorder: Recorder | None) -> Iterator[None]:
    if recorder is None:
        yield
        return
    recorder.paused += 1
    try:
        yield
    finally:
        recorder.paused -= 1


def _in_child(watcher: Watcher | None) -> None:
    """A forked data-loading worker has nothing to record."""
    if watcher is None:
        return
    if watcher._recorder is not None:  # noqa: SLF001
        watcher._recorder.overflow = True  # noqa: SLF001
    watcher.outside.onlooker.enabled = False
    watcher.glimpses.blind()
