"""Functions under one `torch.func.vmap`, as what they are: functions of whole batches.

There a tensor is a wrapper of the batch, with the axis that counts examples hidden. A step's program holds the batches, and
in the place of a function the same one under a `vmap` of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch.utils import _pytree as pytree

from whyvae.watch.tape import rebuild, tensors_in

Dims = tuple[int | None, ...]


def inside() -> bool:
    """Is this under one `vmap`, and under no other transform?"""
    top = _functorch.peek_interpreter_stack()
    return top is not None and top.level() == 1 and top.key() == _functorch.TransformType.Vmap


def batches(value: Any) -> Any:
    """`value` with the batch in the place of each wrapper in it."""
    return rebuild(value, lambda t: _functorch.get_unwrapped(t) if _functorch.is_batchedtensor(t) else t, Tensor)


def dims(value: Any) -> Dims:
    """The axis that counts examples, of each tensor in `value`; None where it has none."""
    return tuple(_functorch.maybe_get_bdim(t) if _functorch.is_batchedtensor(t) else None for t in tensors_in(value))


def of_batches(func: Callable[..., Any], given: Any, made: Any) -> Callable[..., Any]:
    """`func`, that made `made` of `given`, as a function of batches; the same object for the same."""
    axes, results = dims(given), dims(made)
    if all(axis is None for axis in (*axes, *results)):
        return func
    drawn = all(axis is None for axis in axes)  # noise, of nothing that knows how many examples there are
    sizes = (t.shape[axis] for t, axis in zip(tensors_in(batches(made)), results, strict=True) if axis is not None)
    return _of_batches(func, axes, results, next(sizes, 0) if drawn else 0)


@functools.lru_cache(maxsize=4096)  # functions that a script makes anew at each step are not kept for ever
def _of_batches(func: Callable[..., Any], given: Dims, made: Any, drawn: int) -> Callable[..., Any]:
    def several(*args: Any, **kwargs: Any) -> Any:
        structure: list[Any] = []

        def one(_: Tensor | None, *examples: Tensor) -> tuple[Any, ...]:
            each = iter(examples)
            own_args, own_kwargs = rebuild((args, kwargs), lambda _: next(each), Tensor)
            leaves, tree = pytree.tree_flatten(func(*own_args, **own_kwargs))
            structure[:] = [tree]
            return tuple(leaves)

        first, axis = (torch.empty(drawn), 0) if drawn else (None, None)
        many = torch.vmap(one, (axis, *given), made, randomness="different")(first, *tensors_in((args, kwargs)))
        return pytree.tree_unflatten(many, structure[0])

    several.__name__ = getattr(func, "__name__", "?")
    return several
