"""Tables of numeric, binary and categorical columns. Encoder and decoder are those of `mlp`: a linear layer on a one-hot
column is an embedding. What differs is the likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from whyvae.models.likelihoods import MOMENTUM, Gaussian, Likelihood, Mean


class Mixed(Likelihood):
    """A table: numeric columns N(x; output, s of the column), binary ones as logits, categories as one logit a level.

    `kinds` and `widths` give each column's kind and how many of the D values it takes (levels of a category, else 1).
    """

    def __init__(self, kinds: Sequence[str], widths: Sequence[int]) -> None:
        super().__init__()
        self.widths, self.kinds = list(widths), list(kinds)
        self.register_buffer("numeric", self._where("numeric"), persistent=False)
        self.register_buffer("binary", self._where("binary"), persistent=False)
        self.gaussian = Gaussian((len(self.numeric),))

    numeric: Tensor
    binary: Tensor

    def _where(self, kind: str) -> Tensor:
        starts = [sum(self.widths[:i]) for i in range(len(self.widths))]
        return torch.tensor([s for s, k in zip(starts, self.kinds, strict=True) if k == kind], dtype=torch.long)

    def nll(self, output: Tensor, x: Tensor) -> Tensor:
        total = self.gaussian.nll(output[:, self.numeric], x[:, self.numeric])
        if len(self.binary):
            logits, truth = output[:, self.binary], x[:, self.binary]
            total = total + F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1)
        for logits, truth in self._categories(output, x):
            total = total - (logits.log_softmax(1) * truth).sum(1)
        return total

    def _categories(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        parts = zip(*(t.split(self.widths, 1) for t in tensors), strict=True)
        return [p for p, kind in zip(parts, self.kinds, strict=True) if kind == "categorical"]

    def mean(self, output: Tensor) -> Tensor:
        made = []
        for part, kind in zip(output.split(self.widths, 1), self.kinds, strict=True):
            made.append({"numeric": part, "binary": part.sigmoid(), "categorical": part.softmax(1)}[kind])
        return torch.cat(made, 1)

    def draw(self, output: Tensor) -> Tensor:
        """Categories one-hot, as the model takes them in."""
        drawn = self.mean(output)
        drawn[:, self.numeric] = self.gaussian.draw(drawn[:, self.numeric])
        drawn[:, self.binary] = torch.bernoulli(drawn[:, self.binary])
        parts = drawn.split(self.widths, 1)
        for part, kind in zip(parts, self.kinds, strict=True):
            if kind == "categorical":
                part.copy_(F.one_hot(torch.multinomial(part, 1)[:, 0], part.shape[1]).to(part.dtype))
        return drawn

    def calibrate(self, output: Tensor, x: Tensor, momentum: float = MOMENTUM, mean: Mean | None = None) -> None:
        if len(self.numeric):
            self.gaussian.calibrate(output[:, self.numeric], x[:, self.numeric], momentum, mean)
