"""The map between the unit of the data and that of the model, and back for what the model generates."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from whyvae.data.dataset import Dataset
from whyvae.data.raw import Column, Kind

BYTE = 255.0


@dataclass(frozen=True)
class Codec:
    """Model's value = (value - shift) / scale. Categories of a table become one column a level.

    Images and vectors get one shift and scale, to [0, 1] where the likelihood wants a range, else to mean 0 and standard
    deviation 1 over all values; sequences one a channel and numeric columns one each, to mean 0 and standard deviation 1.
    """

    kind: Kind
    shape: tuple[int, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    low: float
    high: float
    whole: bool
    columns: tuple[Column, ...] = ()

    @classmethod
    def of(cls, data: Dataset, *, to_range: bool = True) -> Codec:
        s, columns = data.summary, data.columns
        low, high = float(s.low.min()), float(s.high.max())
        shift: tuple[float, ...]
        scale: tuple[float, ...]
        if data.kind in {"image", "vector"}:
            byte = s.whole and low >= 0 and 15 < high <= BYTE and data.kind == "image" and high > 100
            low, high = (0.0, BYTE) if byte else (low, high)
            mean = float(s.mean.mean())
            spread = float(np.sqrt((s.std**2 + (s.mean - mean) ** 2).mean()))
            shift, scale = ((low,), (high - low,)) if to_range else ((mean,), (spread,))
        elif data.kind == "sequence":
            means = s.mean.mean(1)
            spreads = np.sqrt((s.std**2 + (s.mean - means[:, None]) ** 2).mean(1))
            shift, scale = tuple(means.tolist()), tuple(np.where(spreads > 0, spreads, 1.0).tolist())
        else:
            plain = [c.kind != "numeric" for c in columns]
            shift = tuple(0.0 if p else float(m) for p, m in zip(plain, s.mean, strict=True))
            scale = tuple(1.0 if p or v == 0 else float(v) for p, v in zip(plain, s.std, strict=True))
        return cls(data.kind, data.shape, shift, scale, low, high, s.whole, columns)

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (sum(self.widths),) if self.kind == "table" else self.shape

    @property
    def widths(self) -> tuple[int, ...]:
        """Of a table: how many of the model's values each column takes."""
        return tuple(len(c.levels) if c.kind == "categorical" else 1 for c in self.columns)

    @property
    def nats(self) -> float:
        """What a density gains when it is told in the model's unit and not in the data's: -log p here + this is there."""
        values = math.prod(self.shape) // len(self.scale)
        return values * sum(math.log(s) for s in self.scale)

    def encode(self, rows: Tensor) -> Tensor:
        """[k, *shape] -> [k, *model_shape]."""
        scaled = (rows - self._broadcast(self.shift, rows)) / self._broadcast(self.scale, rows)
        if not any(c.kind == "categorical" for c in self.columns):
            return scaled
        parts = [
            F.one_hot(rows[:, i].long(), len(c.levels)).to(rows.dtype)
            if c.kind == "categorical"
            else scaled[:, i : i + 1]
            for i, c in enumerate(self.columns)
        ]
        return torch.cat(parts, 1)

    def decode(self, made: Tensor) -> Tensor:
        """[k, *model_shape] -> [k, *shape]: within the data's range for images and vectors, codes for categories."""
        if self.kind == "table":
            parts = made.split(list(self.widths), 1)
            pairs = zip(parts, self.columns, strict=True)
            made = torch.cat([self._column(p, c) for p, c in pairs], 1)
        rows = made * self._broadcast(self.scale, made) + self._broadcast(self.shift, made)
        return rows.clamp(self.low, self.high) if self.kind in {"image", "vector"} else rows

    @staticmethod
    def _column(part: Tensor, column: Column) -> Tensor:
        if column.kind == "categorical":
            return part.argmax(1, keepdim=True).to(part.dtype)
        return (part > 0.5).to(part.dtype) if column.kind == "binary" else part

    def _broadcast(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        row = torch.tensor(values, dtype=like.dtype, device=like.device)
        return row[:, None] if self.kind == "sequence" else row

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> Codec:
        columns = tuple(Column(c["name"], c["kind"], tuple(c["levels"])) for c in held["columns"])
        tuples = {name: tuple(held[name]) for name in ("shape", "shift", "scale")}
        return cls(**{**held, **tuples, "columns": columns})
