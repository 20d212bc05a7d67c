"""Several processes that train one model, as `torchrun` starts them; or just this one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Group:
    rank: int = 0
    size: int = 1
    local: int = 0  # which process of this machine, so which GPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes; each gets the same bits."""
        if self.size > 1:
            distributed.all_reduce(value)
            value /= self.size
        return value

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """A module whose gradients are those of the whole batch."""
        if self.size == 1:
            return model
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)


@contextmanager
def joined() -> Iterator[Group]:
    """The processes of `torchrun`, if it started us."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    ours = not distributed.is_initialized()
    if ours:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Group(distributed.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        if ours:
            distributed.destroy_process_group()
