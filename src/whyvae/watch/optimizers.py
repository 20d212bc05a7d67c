"""The optimisers of a run: which they are, how far each has come, and at what rate."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor

from whyvae.watch.places import calling_place
from whyvae.watch.step import Optimizer


class Optimizers:
    """`known`: by a key that is an optimiser's own; `count`: steps done, of the one that has come furthest."""

    def __init__(self) -> None:
        self.known: dict[int, Optimizer] = {}
        self.count = 0
        # id of an optimiser -> itself, its key: the id of one that is gone may be another's
        self._keys: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._met = 0

    def key(self, optimizer: Any) -> int:
        held = self._keys.get(id(optimizer))
        if held is None or held[0]() is not optimizer:
            self._met += 1
            held = self._keys[id(optimizer)] = (weakref.ref(optimizer), self._met)
        return held[1]

    def parameters(self) -> list[Tensor]:
        """All that are optimised and not gone."""
        return [p for o in self.known.values() for p in o.alive]

    def meet(self, optimizer: Any) -> None:
        """Before its first step."""
        key = self.key(optimizer)
        if key in self.known:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.known[key] = Optimizer(
            type(optimizer).__name__, frozenset(id(p) for p in parameters), parameters, _rate(optimizer),
            {k: v for k, v in optimizer.param_groups[0].items() if isinstance(v, int | float | tuple) and k not in {"lr", "maximize"}},
            maximizes=bool(optimizer.param_groups[0].get("maximize", False)),
        )  # fmt: skip

    def stepped(self, optimizer: Any) -> None:
        """After each step."""
        known = self.known[self.key(optimizer)]
        known.steps += 1
        if known.steps == 1:
            known.begun = self._begun(optimizer)
        if known.stepped_at is None:
            known.stepped_at = calling_place()
        known.lr = _rate(optimizer)
        known.largest_lr = max(known.largest_lr, known.lr)
        self.count = max(self.count, known.begun + known.steps)

    def _begun(self, optimizer: Any) -> int:
        """Steps done before the first of `optimizer`: those of an earlier training, not of one it takes turns with."""
        others = [o.steps for key, o in self.known.items() if key != self.key(optimizer)]
        return self.count if max(others, default=0) > 1 else 0


def _rate(optimizer: Any) -> float:
    """Its learning rate; 0 where somebody's own optimiser calls it otherwise, or has none."""
    return float(optimizer.param_groups[0].get("lr", 0.0))
