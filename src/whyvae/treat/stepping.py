"""Run-time forms of what is changed about the steps of an optimiser: rates, clipping, what is stepped, what is cleared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from whyvae.treat.injector import Injector


def scale_rates(injector: Injector, factor: float) -> bool:
    """Each step is made at `factor` times the rate the script has set; its schedule sees its own rates."""
    own: dict[int, list[float]] = {}

    def before(optimizer: Optimizer) -> None:
        own[id(optimizer)] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = factor * group["lr"]

    def after(optimizer: Optimizer) -> None:
        for group, rate in zip(optimizer.param_groups, own.pop(id(optimizer), []), strict=False):
            group["lr"] = rate

    injector.before_step(before)
    injector.after_step(after)
    return True


def clip_gradients(injector: Injector, norm: float) -> bool:
    def before(optimizer: Optimizer) -> None:
        torch.nn.utils.clip_grad_norm_([p for p in _parameters(optimizer) if p.grad is not None], norm)

    injector.before_step(before)
    return True


def clear_gradients(injector: Injector) -> bool:
    def after(optimizer: Optimizer) -> None:
        optimizer.zero_grad()

    injector.after_step(after)
    return True


def decay_weights(injector: Injector, decay: float) -> bool:
    def before(optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            if "weight_decay" in group:
                group["weight_decay"] = decay

    injector.before_step(before)
    return True


def optimise_all(injector: Injector) -> bool:
    """What the loss depends on and no optimiser steps is given to the first that steps, before its first step."""
    leaves: dict[int, Tensor] = {}
    added: list[bool] = []

    def seen(loss: Tensor) -> Tensor:
        if not added:
            leaves.update({id(leaf): leaf for leaf in _leaves(loss)})
        return loss

    def before(optimizer: Optimizer) -> None:
        if added:
            return
        added.append(True)
        stepped = {id(p) for other in injector.optimizers(optimizer) for p in _parameters(other)}
        lacking = [leaf for key, leaf in leaves.items() if key not in stepped]
        if lacking:
            optimizer.add_param_group({"params": lacking})

    injector.at_loss(seen)
    injector.before_step(before)
    return True


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _leaves(loss: Tensor) -> list[Tensor]:
    """Tensors that a backward of `loss` would give a gradient."""
    found: list[Tensor] = []
    todo: list[Any] = [loss.grad_fn]
    known = {None}
    while todo:
        node = todo.pop()
        if node in known:
            continue
        known.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo += [following for following, _ in node.next_functions]
    return found
