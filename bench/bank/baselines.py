"""What others watch, rebuilt here in a few rules of our own (no other tool is run): loss, gradients, and a KL near zero."""

from __future__ import annotations

import math
from typing import Any, Self

EVERY = 20  # steps between looks
VANISHED, EXPLODED = 1e-7, 70.0  # ratio of gradient norms, first layer to largest; typed, not fitted
DEAD = 0.7  # share of a layer's units that get no gradient from a batch
SLOW = 0.01  # relative loss drop over the second half below which training is called stuck


class Curve:
    """Use around training: looks at losses and gradients every few steps, and at nothing else."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.ratios: list[float] = []
        self.norms: list[float] = []
        self.dead: list[float] = []
        self._steps = 0
        self._undo: list[Any] = []

    def __enter__(self) -> Self:
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        original = torch.Tensor.backward

        def backward(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if self._steps % EVERY == 0:
                self.losses.append(float(tensor.detach().sum()))
            return original(tensor, *args, **kwargs)

        torch.Tensor.backward = backward  # type: ignore[method-assign]
        self._undo.append(lambda: setattr(torch.Tensor, "backward", original))
        self._undo.append(register_optimizer_step_pre_hook(self._look).remove)
        return self

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo()

    def _look(self, optimizer: Any, *_: object) -> None:
        self._steps += 1
        if self._steps % EVERY != 1:
            return
        grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None and p.dim() > 1]
        norms = [float(g.norm()) for g in grads]
        if norms:
            self.norms.append(max(norms))
            self.ratios.append(norms[0] / max(*norms, 1e-30))
            rows = [float((g.abs().sum(1) == 0).float().mean()) for g in grads if g.dim() == 2]
            self.dead.append(max(rows, default=0.0))

    def says(self) -> list[str]:
        """The problems seen, in the order in which such a tool would name them."""
        losses, half = self.losses, len(self.losses) // 2
        if any(not math.isfinite(v) for v in (*losses, *self.norms)):
            return ["not finite"]
        found = []
        if self.norms and max(self.norms[len(self.norms) // 4 :], default=0) > EXPLODED * max(
            sorted(self.norms)[len(self.norms) // 2], 1e-12
        ):
            found.append("exploding gradient")
        if self.ratios and sorted(self.ratios)[len(self.ratios) // 2] < VANISHED:
            found.append("vanishing gradient")
        if self.dead and sorted(self.dead)[len(self.dead) // 2] > DEAD:
            found.append("dying ReLU")
        if half > 4:
            late = losses[half:]
            turns = sum((b - a) * (c - b) < 0 for a, b, c in zip(late, late[1:], late[2:], strict=False))
            swing = max(late) - min(late)
            if turns > 0.7 * len(late) and swing > 0.5 * abs(sum(late) / len(late)):
                found.append("oscillating loss")
            early, end = sum(losses[:half]) / half, sum(late) / len(late)
            if early - end < SLOW * abs(early):
                found.append("loss not decreasing")
        return found


# What each would be taken for, generously.
TAKEN_FOR = {
    "not finite": ("TRN01", "DAT01", "TRN02"), "exploding gradient": ("TRN02", "DAT02"), "oscillating loss": ("TRN02",),
    "vanishing gradient": ("WIR01", "WIR05", "TRN05"), "dying ReLU": ("TRN05", "TRN02"),
    "loss not decreasing": ("TRN03", "TRN02", "WIR01"), "kl near zero": ("POS01", "OBJ01", "OBJ02"),
}  # fmt: skip
