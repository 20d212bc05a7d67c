"""Changes a training at run time, at points of the recorded program; no edit of the user's file.

It stands above the recorder: what a treatment computes is on the tape, so that a treated training is examined as any other.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch._functorch import eager_transforms
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from whyvae.treat.points import Point
from whyvae.watch.modes import put_above, take_off
from whyvae.watch.places import calling_place
from whyvae.watch.recorder import transformed
from whyvae.watch.tape import Place, tensors_in

Call = Callable[..., Any]
Key = tuple[str, Place, int]
Change = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]
Loss = Callable[[Tensor], Tensor]
Step = Callable[[Optimizer], None]


class Injector(TorchFunctionMode):
    """Remedies set it up before the script runs; it is entered after the watcher.

    `missed`: backward calls in which a treatment of the loss did not meet the tensors it needs, of `backwards`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0  # optimiser steps done
        self.backwards = 0
        self.missed = 0
        self.met: dict[str, Tensor] = {}  # what stands at the points, in this step
        self._wanted: dict[Key, list[tuple[str, Point]]] = {}
        self._changes: dict[Key, Change] = {}
        self._losses: list[Loss] = []
        self._before: list[Step] = []
        self._after: list[Step] = []
        self._names: set[str] = set()
        self._turns: dict[tuple[str, Place], int] = {}
        self._undo: list[Callable[[], Any]] = []
        self._optimizers: set[int] = set()
        self._made: weakref.WeakSet[Optimizer] = weakref.WeakSet()  # while the script ran
        self._inside = False
        self._differentiating = False  # inside torch.func

    # ------------------------------------------------------------------ what remedies ask for
    def want(self, role: str, at: Point) -> None:
        """`met[role]` is the tensor at this point, in every step."""
        self._wanted.setdefault(at.call, []).append((role, at))
        self._names.add(at.name)

    def change(self, at: Point, change: Change) -> None:
        """The call at this point returns `change(call, args, kwargs)`."""
        self._changes[at.call] = change
        self._names.add(at.name)

    def at_loss(self, change: Loss) -> None:
        """`backward` starts from `change(loss)`."""
        self._losses.append(change)

    def before_step(self, event: Step) -> None:
        self._before.append(event)

    def after_step(self, event: Step) -> None:
        self._after.append(event)

    def optimizers(self, stepping: Optimizer) -> set[Optimizer]:
        """Those the script has made, the one that steps among them."""
        return {*self._made, stepping}

    # ------------------------------------------------------------------ life
    def __enter__(self) -> Self:
        self._undo = [
            register_optimizer_step_pre_hook(self._stepping).remove,
            register_optimizer_step_post_hook(self._stepped).remove,
            self._wrap_backward(),
            *self._wrap_transforms(),
            self._listen_to_optimizers(),
        ]
        if self._names:
            put_above(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._names:
            take_off(self)
        for undo in self._undo:
            undo()

    # ------------------------------------------------------------------ events
    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in self._names or self._inside or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        place = calling_place()
        key = self._counted(name, place) if place is not None else None
        if key is None or not (key in self._changes or key in self._wanted):
            return func(*args, **kwargs)
        change = self._changes.get(key)
        out = func(*args, **kwargs) if change is None else change(func, args, kwargs)
        for role, at in self._wanted.get(key, ()):
            tensors = list(tensors_in(out) if at.made else (*tensors_in(args), *tensors_in(kwargs)))
            if at.position < len(tensors):
                self.met[role] = tensors[at.position]
        return out

    def _counted(self, name: str, place: Place) -> Key:
        turn = self._turns.get((name, place), 0)
        self._turns[name, place] = turn + 1
        return name, place, turn

    def _wrap_backward(self) -> Callable[[], None]:
        original = Tensor.backward

        def backward(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._inside:  # under a function mode torch calls it again from within
                return original(loss, *args, **kwargs)  # type: ignore[no-untyped-call]
            self.backwards += 1
            for change in self._losses:
                loss = change(loss)
            self._inside = True
            try:
                return original(loss, *args, **kwargs)  # type: ignore[no-untyped-call]
            finally:
                self._inside = False
                self._anew()

        Tensor.backward = backward  # type: ignore[method-assign, assignment]
        return lambda: setattr(Tensor, "backward", original)

    def _wrap_transforms(self) -> list[Callable[[], None]]:
        """`torch.func.grad` and `grad_and_value` differentiate the changed loss, and return its value."""
        original = getattr(eager_transforms, "grad_and_value_impl", None)
        if original is None:
            return []

        def differentiate(func: Call, argnums: Any, has_aux: bool, args: Any, kwargs: Any) -> Any:
            if self._inside or self._differentiating or transformed() or torch.compiler.is_compiling():
                return original(func, argnums, has_aux, args, kwargs)
            self.backwards += 1
            self._differentiating = True
            try:
                return original(self._changed(func, has_aux=has_aux), argnums, has_aux, args, kwargs)
            finally:
                self._differentiating = False
                self._anew()

        eager_transforms.grad_and_value_impl = differentiate
        return [lambda: setattr(eager_transforms, "grad_and_value_impl", original)]

    def _changed(self, func: Call, *, has_aux: bool) -> Call:
        @functools.wraps(func)
        def changed(*args: Any, **kwargs: Any) -> Any:
            out = func(*args, **kwargs)
            loss = out[0] if has_aux else out
            for change in self._losses:
                loss = change(loss)
            return (loss, *out[1:]) if has_aux else loss

        return changed

    def _listen_to_optimizers(self) -> Callable[[], None]:
        original, made = Optimizer.__init__, self._made

        def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            made.add(optimizer)

        Optimizer.__init__ = init  # type: ignore[method-assign, assignment]
        return lambda: setattr(Optimizer, "__init__", original)

    def _anew(self) -> None:
        self._turns.clear()
        self.met.clear()

    def _stepping(self, optimizer: Optimizer, *_: object) -> None:
        self._optimizers.add(id(optimizer))
        for event in self._before:
            event(optimizer)

    def _stepped(self, optimizer: Optimizer, *_: object) -> None:
        for event in self._after:
            event(optimizer)
        self._anew()
        if id(optimizer) == min(self._optimizers):
            self.steps += 1
