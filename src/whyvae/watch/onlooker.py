"""What a script does outside training: which data it evaluates on, what it draws and decodes, what becomes of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from whyvae.watch.arrays import Array, arrays_of, frames_here
from whyvae.watch.dependencies import MIXING, Dependencies
from whyvae.watch.places import calling_place
from whyvae.watch.recorder import Recorder, copied
from whyvae.watch.step import Decoded, Left
from whyvae.watch.tape import RANDOM, Tape, tensors_in

MOST_HELD_OUT = 2048  # examples
MOST_BYTES = 64 * 2**20
MOST_OPS = 4000  # recorded in one window
MOST_CALLS = 256  # of the decoder, in one window
MOST_NUMBERS = 2**16  # kept of one tensor that enters the decoder
MOST_PIXELS = 2**18  # kept of one that leaves torch
MOST_LEFT = 4  # tensors that left torch last
MOST_WINDOWS = 24
Marks = dict[int, "weakref.ref[Tensor]"]  # by id


def entries(tape: Tape) -> tuple[dict[int, int], frozenset[int]]:
    """({id of a weight through which data enters the encoder: slot that enters}, ids for the decoder)."""
    deps = Dependencies(tape)
    encoder: dict[int, int] = {}
    inner: dict[int, int] = {}  # weight -> slot that enters, of what was encoded
    for op in tape.ops:
        weights = [r for r in op.reads if tape.slots[r].trainable]
        inputs = [r for r in op.reads if r not in deps.parametric]
        if deps.is_mixing(op) and weights and inputs:
            found = inner if inputs[0] in deps.encoded else encoder
            found.setdefault(id(tape.slots[weights[0]].value), inputs[0])
    drawn = {s for op in tape.ops if op.random for s in op.outs}
    decoder = {w for w, slot in inner.items() if _reached(deps, slot, drawn)}
    if not decoder:  # noise from outside torch: as large as what it is added to
        given = {s.index for s in tape.slots if s.external and s.index not in deps.parametric} - set(encoder.values())
        decoder = {w for w, slot in inner.items() if _reached(deps, slot, given, tape.slots[slot].shape)}
    return {w: slot for w, slot in encoder.items() if w not in decoder}, frozenset(decoder)


def _reached(deps: Dependencies, slot: int, sources: set[int], shape: tuple[int, ...] | None = None) -> bool:
    """Does one of `sources` (of that shape) reach `slot` without passing a parametrised function?"""
    todo, seen = [slot], {slot}
    while todo:
        position = deps.producer.get(todo.pop())
        if position is None:
            continue
        op = deps.tape.ops[position]
        if not deps.is_layer(op):
            new = [r for r in (*op.reads, *op.outs) if r not in seen]
            if any(r in sources and shape in {None, deps.tape.slots[r].shape} for r in new):
                return True
            seen.update(new)
            todo.extend(new)
    return False


class Onlooker(TorchFunctionMode):
    """Active outside training, in windows. Keeps what enters the encoder without gradients (held-out data), and a
    tape of what is drawn, decoded, and done to it until it leaves torch. What the encoder made is not followed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder: dict[int, int] = {}
        self.decoder: frozenset[int] = frozenset()
        self.held_out: list[tuple[int, Tensor]] = []  # (id of the weight it met, value)
        self.windows: list[list[Decoded]] = []
        self.enabled = True
        self.paused = 0
        self.leaving: Callable[[], None] = lambda: None  # called when a decoded tensor leaves torch
        self.known: Callable[[], dict[int, int]] = dict  # id of a weight that took the place of another -> that one's
        self.step = 0  # optimiser steps done
        self.frames: tuple[FrameType, ...] = ()  # of the user's, that called the decoder last, until training goes on
        self._shapes: frozenset[tuple[int, ...]] = frozenset()  # of the decoder's first weights
        self._encoders: dict[tuple[int, ...], int] = {}  # shape of an encoder's first weight -> its id
        self._examples = self._bytes = 0
        self.last_left: tuple[Left, ...] = ()  # in the last window that is kept
        self.begin(0)
        self._last = self._window

    def meet(self, tape: Tape) -> None:
        """Learns from a training step through which weights examples are encoded, and latents decoded.

        Those of models met before are kept: the one that is sampled in the end need not be the last.
        """
        encoder, decoder = entries(tape)
        shapes = {id(s.value): s.shape for s in tape.slots if s.trainable}
        self.encoder, self.decoder = self.encoder | encoder, self.decoder | decoder
        self._shapes |= frozenset(shapes[key] for key in decoder if len(shapes[key]) > 1)
        self._encoders |= {shapes[key]: key for key in encoder if len(shapes[key]) > 1}

    # ------------------------------------------------------------------ windows
    def begin(self, step: int) -> None:
        self.step = step
        self._window = Recorder(step)
        self._calls: list[Decoded] = []
        self.left: tuple[Left, ...] = ()
        self._same_as = self.known()
        self._encoded: Marks = {}
        self._statistics: Marks = {}  # means and spreads of encodings over examples, by which draws are moved and scaled
        self._other: Marks = {}  # made in the window, with gradients, of none of these

    @property
    def saw_decoding(self) -> bool:
        return bool(self._calls)

    def end(self) -> None:
        """Keeps the window if the decoder was called in it: of each place the first, and the last two."""
        calls, self._calls = self._calls, []
        if not calls or not self.enabled:
            return
        self._last, self.last_left = self._window, self.left
        _finish(self._window.tape)
        same = [w for w in self.windows if w[0].place == calls[0].place]
        surplus = same[1] if len(same) > 2 else self.windows[1] if len(self.windows) >= MOST_WINDOWS else None
        self.windows = [w for w in self.windows if w is not surplus] + [calls]

    @property
    def decoded(self) -> list[Decoded]:
        """Calls of the decoder on what was not encoded, oldest first."""
        return [call for window in self.windows for call in window]

    def arrays(self) -> list[Array]:
        """What the user's functions hold that called the decoder last, if training did not go on after that."""
        return arrays_of(self.frames, self._last.slot_of)

    def slot_of(self, value: Any) -> tuple[Tape, int] | None:
        """The window's tape, and where on it `value` stands (-1: it is no tensor that was followed)."""
        if not self._calls:
            return None
        slot = self._window.slot_of(value) if isinstance(value, Tensor) else None
        return self._window.tape, -1 if slot is None else slot

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not self.enabled or self.paused:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "?")
        try:
            fate = self._fate(name, args, kwargs)
        except Exception:  # noqa: BLE001 - our mistake must not become the user's
            self.enabled, fate = False, ""
        if fate == "drawn":
            return self._followed(func, name, args, kwargs)
        out = func(*args, **kwargs)
        if fate or torch.is_grad_enabled():
            marks = {"encoded": self._encoded, "statistic": self._statistics}.get(fate, self._other)
            marks.update({id(t): weakref.ref(t) for t in tensors_in(out)})
        return out

    def _fate(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Does this call make something encoded, a statistic of that, something drawn or decoded, or is it of no interest ("")?"""
        drawn = foreign = False
        tensors = [*tensors_in(args), *tensors_in(kwargs)]
        if name in _JOINING and self._rows_beside(tensors, args, kwargs):
            return "drawn"
        known = [_marked(self._statistics, tensor) for tensor in tensors]
        for tensor, statistic in zip(tensors, known, strict=True):
            if statistic:
                continue
            if self._window.slot_of(tensor) is not None:
                drawn = True
            elif _marked(self._encoded, tensor) or (tensor.grad_fn is not None and not _marked(self._other, tensor)):
                # here, or by the part of a training step before the window
                return "statistic" if _over_examples(name, tensor, args, kwargs) else "encoded"
            else:
                foreign = True
        if any(known) and not drawn and name not in RANDOM and (not foreign or (name in MIXING and known[0])):
            return "statistic" if not foreign else "encoded"
        if name in MIXING and tensors:
            return self._mixed(tensors, drawn=drawn)
        return "drawn" if (drawn or name in RANDOM) and len(self._window.tape.ops) < MOST_OPS else ""

    def _rows_beside(self, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Are drawn rows put below encoded ones, to be decoded with them?"""
        axis = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
        return (
            axis == 0
            and any(self._window.slot_of(t) is not None for t in tensors)
            and any(_marked(self._encoded, t) for t in tensors)
        )

    def _mixed(self, tensors: list[Tensor], *, drawn: bool) -> str:
        for tensor in tensors:
            weight = self._same_as.get(id(tensor), id(tensor))
            if not drawn and weight not in self.decoder and self._from_outside(tensor):
                weight = self._encoders.get(tuple(tensor.shape), weight)
            if weight in self.encoder and weight not in self.decoder:
                if _begins(tensors[0]):
                    break
                self._keep(weight, tensors[0])
                return "encoded"
            if weight in self.decoder or (drawn and self._like_decoder(tensor)):
                self._entered(tensors, tensor)
                return "drawn"
        return "drawn" if drawn else ""

    def _like_decoder(self, weight: Tensor) -> bool:
        """A copy of the decoder (averaged weights, a reloaded checkpoint, parameters stepped by hand)?"""
        return tuple(weight.shape) in self._shapes and self._from_outside(weight)

    def _from_outside(self, weight: Tensor) -> bool:
        """Was it there before the window?"""
        slot = self._window.slot_of(weight)
        return weight.is_leaf and (slot is None or self._window.tape.slots[slot].external)

    def _entered(self, tensors: list[Tensor], weight: Tensor) -> None:
        inputs = [t for t in tensors if t is not weight]
        if not inputs or len(self._calls) >= MOST_CALLS:
            return
        z = next((t for t in inputs if self._window.slot_of(t) is not None), inputs[0])
        tape = self._window.tape
        slot = self._window._slot(z)  # noqa: SLF001 - the window is ours
        value = _few(z)
        self._calls.append(Decoded(value, slot, len(tape.ops), tape, self.step, calling_place()))
        self.frames = frames_here()

    def _followed(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = self._window.__torch_function__(func, (), args, kwargs)
        if name in {"numpy", "__array__", "tolist"} and self._calls:
            self.leaving()
            slot = self._window.slot_of(args[0])
            if slot is not None:
                self.left = (Left(slot, _few(args[0], MOST_PIXELS)), *self.left[: MOST_LEFT - 1])
        return out

    def _keep(self, weight: int, value: Tensor) -> None:
        size = value.numel() * value.element_size()
        small = self._examples < MOST_HELD_OUT and self._bytes + size < MOST_BYTES
        if small and not torch.is_grad_enabled() and value.dim():
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - of a recorder that is active too
                self.held_out.append((weight, value.detach().clone()))
            self._examples += value.shape[0]
            self._bytes += size


_JOINING = {"cat", "concat", "concatenate", "vstack", "row_stack"}
_STATISTICS = {"mean", "std", "var", "median", "nanmean", "quantile", "cov", "amax", "amin"}


def _over_examples(name: str, of: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Is this call a statistic of `of` over its first axis?"""
    if name not in _STATISTICS or of.dim() < 2:
        return False
    position = 2 if name == "quantile" else 1
    axes = kwargs.get("dim", args[position] if len(args) > position else None)
    return (
        name == "cov"
        or axes is None
        or any(a % of.dim() == 0 for a in (axes if isinstance(axes, list | tuple) else [axes]))
    )


def _begins(value: Tensor) -> bool:
    """Is it one class for all: the sign that a sequence begins with, from which a new one is made?"""
    if value.is_floating_point() or value.numel() < 2:
        return False
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - as above
        return bool((value == value.flatten()[0]).all())


def _marked(marks: Marks, tensor: Tensor) -> bool:
    mark = marks.get(id(tensor))
    return mark is not None and mark() is tensor


def _few(tensor: Tensor, numbers: int = MOST_NUMBERS) -> Tensor:
    """A copy of the first rows."""
    with torch._C.DisableTorchFunction(), torch.no_grad():  # noqa: SLF001 - as above
        rows = max(1, numbers // max(1, tensor[:1].numel())) if tensor.dim() else 0
        return (tensor[:rows] if rows else tensor).detach().clone()


def _finish(tape: Tape) -> None:
    """What the window's program was given from outside is copied, so that later changes do not reach it."""
    used = {slot for op in tape.ops for slot in op.reads}
    for slot in tape.slots:
        if slot.index not in used:
            slot.value = slot.live = None
        elif slot.value is not None and not slot.parameter and not slot.trainable:
            with torch._C.DisableTorchFunction():  # noqa: SLF001 - as above
                slot.value = copied(slot.value)
