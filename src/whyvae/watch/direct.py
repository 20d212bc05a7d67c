"""A trained model without its script: one step of it, recorded here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from whyvae.watch.names import Registry
from whyvae.watch.recorder import Recorder
from whyvae.watch.step import Log, Step
from whyvae.watch.subject import Subject
from whyvae.watch.tape import Tape, tensors_in
from whyvae.watch.trainings import NothingSeen, main_step

BATCH = 128
BATCHES = 12


def record(step: Callable[[], Tensor]) -> Tape:
    """The tape of one call of `step`, which returns the loss."""
    recorder = Recorder()
    with recorder:
        loss = step()
    slot = recorder.slot_of(loss)
    if slot is None:
        raise NothingSeen("the loss is not made of torch functions that could be followed")
    recorder.tape.roots.append(slot)
    return recorder.finished()


def watch_model(model: nn.Module, data: Any, loss: Callable[..., Tensor] | None = None) -> Subject:
    """The subject of `model` on `data` (a tensor [n, ...], an array, or batches), judged by `loss`.

    `loss(model, batch)` returns the training loss; without it the model's own output must hold a scalar loss.

    Raises:
        NothingSeen: no loss was given or found, or the model is not a VAE.
    """
    steps = []
    with torch.random.fork_rng(), torch.enable_grad():
        for index, batch in enumerate(_batches(data)):
            tape = record(lambda batch=batch: _loss(model, batch, loss))  # type: ignore[misc]
            steps.append(Step(tape, index, float("nan")))
    if not steps:
        raise NothingSeen("the data holds no example")
    for step in steps:
        step.loss = 0.0
    main, lineage = main_step(steps)
    wanted = {id(s.value) for s in main.tape.slots if s.trainable}
    return Subject(steps, main, lineage, Log(), [], [], [], [], 0, Registry().names(wanted))


def _batches(data: Any) -> Iterable[Tensor]:
    if isinstance(data, Tensor) or hasattr(data, "__array__"):
        rows = torch.as_tensor(data)
        rows = rows if rows.is_floating_point() else rows.float()
        size = min(BATCH, rows.shape[0])
        return [rows[i : i + size].clone() for i in range(0, rows.shape[0] - size + 1, size)][:BATCHES] if size else []
    found = []
    for batch in data:
        first = next(tensors_in(batch), None)
        if first is not None:
            found.append(first)
        if len(found) >= BATCHES:
            break
    return found


def _loss(model: nn.Module, batch: Tensor, loss: Callable[..., Tensor] | None) -> Tensor:
    if loss is not None:
        return loss(model, batch)
    out = model(batch)
    scalars = [
        t for t in tensors_in(list(out.values()) if isinstance(out, dict) else out) if t.dim() == 0 and t.requires_grad
    ]
    if not scalars:
        raise NothingSeen("the model's output holds no scalar loss: pass loss=lambda model, batch: ...")
    return scalars[0]
