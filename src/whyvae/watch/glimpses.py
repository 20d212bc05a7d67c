"""Batches of steps that are not recorded: what enters the encoder there, and nothing else, which costs next to nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from whyvae.watch.dependencies import MIXING
from whyvae.watch.modes import compiling, put_on, take_off
from whyvae.watch.recorder import transformed
from whyvae.watch.tape import tensors_in

AGAIN = 1.15  # times as far as the last look: 55 looks in 3000 steps, each of which costs about a third of a step
MOST = 96  # batches; of that many, every second is kept
MOST_BYTES = 64 * 2**20
LARGEST = MOST_BYTES // 8  # bytes of a batch: of larger ones, too few would be kept to be worth a look
BORED = 3  # looks in a row at steps in which nothing entered the encoder


class Glimpses(TorchFunctionMode):
    """On the stack from the beginning of some steps to their `backward`.

    `encoder`: ids of the weights through which examples enter it, asked at each look.
    """

    def __init__(self, encoder: Callable[[], dict[int, int]]) -> None:
        super().__init__()
        self.encoder = encoder
        self.kept: list[tuple[int, Tensor]] = []  # (id of the weight it met, value)
        self._next = 0
        self._weights: dict[int, int] = {}
        self._looking = self._done = False
        self._fruitless = 0
        self._bytes = 0

    def look(self, step: int) -> None:
        """At the step that begins now, if its turn has come."""
        if self._looking or step < self._next or self._fruitless >= BORED or compiling():
            return
        self._next = max(step + 1, math.ceil(AGAIN * step))
        self._weights = self.encoder()
        if not self._weights:
            return
        self._looking, self._done = True, False
        self._fruitless += 1
        put_on(self)

    def stop(self) -> None:
        if self._looking:
            self._looking = False
            take_off(self)

    def blind(self) -> None:
        """In a forked process: nothing is kept there."""
        self._done = True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._done and getattr(func, "__name__", "") in MIXING:
            try:
                self._see(args, kwargs)
            except Exception:
                if os.environ.get("WHYVAE_DEBUG") == "1":
                    raise
                self._done, self._fruitless = True, BORED  # our mistake must not become the user's
        return func(*args, **kwargs)

    def _see(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.is_grad_enabled() or transformed():
            return
        tensors = [*tensors_in(args), *tensors_in(kwargs)]
        weight = next((t for t in tensors if id(t) in self._weights), None)
        value = next((t for t in tensors if t is not weight), None)
        if weight is None or value is None:
            return
        self._done, self._fruitless = True, 0
        size = value.numel() * value.element_size()
        if size > LARGEST:
            self._fruitless = BORED
            return
        with torch._C.DisableTorchFunction():  # noqa: SLF001 - of a mode that is active too
            self.kept.append((id(weight), value.detach().clone()))
        self._bytes += size
        if len(self.kept) >= MOST or self._bytes > MOST_BYTES:
            self.kept = self.kept[::2]
            self._bytes = sum(v.numel() * v.element_size() for _, v in self.kept)
