"""Gradients that were there before the first `backward` of a step: of those that the step then uses, the share they make."""

from __future__ import annotations

from whyvae.watch.step import Step


class LeftOver:
    """`before`, `after`: norms of the gradients before and after that backward, by the key of the optimiser.

    Which optimisers step is known later, and what the others still hold is for them to clear (encoder and decoder that take
    turns). Where none steps, all count.
    """

    def __init__(self, before: dict[int, float] | None = None) -> None:
        self.before: dict[int, float] = before or {}
        self.after: dict[int, float] = {}
        self.step: Step | None = None  # kept of this window
        self._stepped: set[int] = set()

    def stepped(self, key: int) -> None:
        """The optimiser `key`, which may be a new one, follows these gradients."""
        self._stepped.add(key)
        if self.step is not None:
            self.step.stale = self.share()

    def share(self) -> float:
        """Of the optimiser that was left most; NaN where there was nothing to compare."""
        norms = {k: self.after[k] for k in self._stepped or self.before if self.after.get(k, 0.0) > 0}
        return max((self.before.get(k, 0.0) / norm for k, norm in norms.items()), default=float("nan"))
