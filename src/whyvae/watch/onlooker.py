"""What a script does outside training: which data it evaluates on, what it decodes, what it shows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from whyvae.watch.lineage import MIXING, Dependencies
from whyvae.watch.step import Decoded, Shown
from whyvae.watch.tape import Place, Tape, calling_place, tensors_in

MOST_HELD_OUT = 2048  # examples
MOST_BYTES = 64 * 2**20
MOST_DECODED = 64


def entries(tape: Tape) -> tuple[dict[int, int], frozenset[int]]:
    """({id of a weight through which data enters the encoder: slot that enters}, ids for the decoder)."""
    deps = Dependencies(tape)
    noise = deps.descendants([s for op in tape.ops if op.random for s in (*op.outs, *op.writes)])
    encoder: dict[int, int] = {}
    decoder: set[int] = set()
    for op in tape.ops:
        weights = [r for r in op.reads if tape.slots[r].trainable]
        if not deps.is_mixing(op) or not weights:
            continue
        inputs = [r for r in op.reads if r not in deps.parametric]
        if not inputs:
            continue
        weight = id(tape.slots[weights[0]].value)
        if inputs[0] not in deps.encoded and inputs[0] not in noise:
            encoder.setdefault(weight, inputs[0])
        elif inputs[0] in noise and not any(_mixed_since_noise(deps, inputs[0], noise)):
            decoder.add(weight)
    return encoder, frozenset(decoder)


def _mixed_since_noise(deps: Dependencies, slot: int, noise: set[int]) -> list[bool]:
    """For each op between the noise and `slot`: is it parametrised?"""
    found, todo, seen = [], [slot], {slot}
    while todo:
        position = deps.producer.get(todo.pop())
        if position is None:
            continue
        op = deps.tape.ops[position]
        noisy = [r for r in op.reads if r in noise and r not in seen]
        if any(r in noise for r in op.reads):
            found.append(deps.is_mixing(op) and any(r in deps.parametric for r in op.reads))
        seen.update(noisy)
        todo.extend(noisy)
    return found


class Onlooker(TorchFunctionMode):
    """Active while gradients are off: keeps what enters the encoder (held-out data) and the decoder (samples)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: dict[int, int] = {}
        self.decoder: frozenset[int] = frozenset()
        self.held_out: list[tuple[int, Tensor]] = []  # (id of the weight it met, value)
        self.decoded: list[Decoded] = []
        self._examples = self._bytes = 0
        self._encoded_rows = -1
        self._training = False
        self.enabled = True

    def begin(self) -> None:
        self._encoded_rows, self._training = -1, False

    @property
    def full(self) -> bool:
        return (self._examples >= MOST_HELD_OUT or self._bytes >= MOST_BYTES) and len(self.decoded) >= MOST_DECODED

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.enabled:
            try:
                self._look(getattr(func, "__name__", "?"), args, kwargs)
            except Exception:  # noqa: BLE001 - our mistake must not become the user's
                self.enabled = False
        return func(*args, **kwargs)

    def _look(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name in {"batch_norm", "dropout"}:
            position = 5 if name == "batch_norm" else 2
            flag = kwargs.get("training", args[position] if len(args) > position else False)
            self._training = self._training or flag is True
        if name not in MIXING:
            return
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is None:
            return
        for tensor in tensors_in([args[1:], kwargs]):
            key = id(tensor)
            if key in self.encoder:
                self._encoded_rows = first.shape[0]
                self._keep(key, first)
                return
            if key in self.decoder:
                if first.shape[0] != self._encoded_rows and len(self.decoded) < MOST_DECODED:
                    self.decoded.append(Decoded(first.detach().clone(), self._training, calling_place()))
                return

    def _keep(self, weight: int, value: Tensor) -> None:
        size = value.numel() * value.element_size()
        if self._examples < MOST_HELD_OUT and self._bytes + size < MOST_BYTES:
            self.held_out.append((weight, value.detach().clone()))
            self._examples += value.shape[0]
            self._bytes += size


def spy_on_pictures(shown: list[Shown], patched: dict[str, Callable[[], None]]) -> None:
    """Wraps the functions that save or show pictures, once their modules are loaded; `patched` gets the undoers."""
    for module_name, path in (
        ("PIL.Image", "fromarray"), ("torchvision.utils", "save_image"), ("matplotlib.pyplot", "imshow"),
        ("matplotlib.axes._axes", "Axes.imshow"), ("imageio", "imwrite"),
    ):  # fmt: skip
        key = f"{module_name}.{path}"
        module = sys.modules.get(module_name)
        if module is None or key in patched:
            continue
        owner: Any = module
        *parents, last = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        original = getattr(owner, last, None)
        if original is None:
            continue
        setattr(owner, last, _spying(original, key, shown))
        patched[key] = lambda owner=owner, last=last, original=original: setattr(owner, last, original)  # type: ignore[misc]


def _spying(original: Callable[..., Any], key: str, shown: list[Shown]) -> Callable[..., Any]:
    def spy(*args: Any, **kwargs: Any) -> Any:
        if len(shown) < 64:
            for value in (*args, *kwargs.values()):
                if hasattr(value, "shape") and hasattr(value, "min") and getattr(value, "size", 0) != 0:
                    try:
                        low, high = float(value.min()), float(value.max())
                    except (TypeError, ValueError, RuntimeError):
                        break
                    shown.append(Shown(key, tuple(value.shape), str(value.dtype), low, high, _caller()))
                    break
        return original(*args, **kwargs)

    spy.__name__ = getattr(original, "__name__", "spy")
    spy.__doc__ = original.__doc__
    return spy


def _caller() -> Place | None:
    frame = sys._getframe(2)  # noqa: SLF001
    return Place(frame.f_code.co_filename, frame.f_lineno)


def no_grad_hooks(enter: Callable[[], None], leave: Callable[[], None]) -> Callable[[], None]:
    """Calls `enter` / `leave` around every `no_grad` and `inference_mode` block; returns the undoer."""
    undoers = [_hooked(cls, enter, leave) for cls in (torch.no_grad, torch.inference_mode)]

    def undo() -> None:
        for undoer in undoers:
            undoer()

    return undo


def _hooked(cls: Any, enter: Callable[[], None], leave: Callable[[], None]) -> Callable[[], None]:
    first, last = cls.__enter__, cls.__exit__

    def entering(self: Any) -> Any:
        result = first(self)
        enter()
        return result

    def leaving(self: Any, *exc: Any) -> Any:
        leave()
        return last(self, *exc)

    cls.__enter__, cls.__exit__ = entering, leaving

    def undo() -> None:
        cls.__enter__, cls.__exit__ = first, last

    return undo
