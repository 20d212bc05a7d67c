"""Trainings that take their gradients with `torch.func`: on recorded steps, by ordinary autograd instead.

Inside `torch.func.grad` tensors are wrapped, and what is done to them cannot be run again outside. The same function,
called with leaves of ours and differentiated as torch.func does it, gives the same bits and an ordinary tape.
Only calls outside any other transform are carried out so: under `vmap`, or a second `grad`, all stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch import eager_transforms
from torch.utils import _pytree as pytree

from whyvae.watch.names import Registry
from whyvae.watch.recorder import transformed
from whyvae.watch.trees import Trees, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.watch.recorder import Recorder

_HOOKS = "torch.func.{grad, vjp, jacrev, hessian} don't yet support saved tensor hooks. Please open an issue with your use case."


class Event(NamedTuple):
    """What the watcher is told: `before` and `after` a gradient is taken, and asked for: `recorder`, `optimised`."""

    close: Callable[[], None]  # a training step computes from here on
    before: Callable[[list[Tensor]], None]
    after: Callable[[list[Tensor], list[Tensor], bool], None]
    recorder: Callable[[], Recorder | None]
    optimised: Callable[[], Iterable[Tensor]]


class Functional:
    """Watches `torch.func.grad` and `grad_and_value`, however and whenever a script imported them.

    `unseen` counts calls inside other transforms.
    """

    def __init__(self, event: Event, registry: Registry) -> None:
        self.event = event
        self.unseen = 0
        self.trees = Trees(lambda: [*registry.parameters(), *event.optimised()])
        self._busy = 0

    def listen(self) -> list[Callable[[], None]]:
        """Starts; returns the undoers. Both transforms end in one function of torch's, which is looked up at each call."""
        original = getattr(eager_transforms, "grad_and_value_impl", None)
        if original is None:
            return []

        @functools.wraps(original)
        def differentiate(func: Callable[..., Any], argnums: Any, has_aux: bool, args: Any, kwargs: Any) -> Any:
            def theirs() -> Any:
                return original(func, argnums, has_aux, args, kwargs)

            if torch.compiler.is_compiling() or self._busy:
                return theirs()
            leaves = self._asked(argnums, args)
            if leaves is None:
                return theirs()
            self._busy += 1
            try:
                return self._watched(theirs, leaves, func, argnums, has_aux, args, kwargs)
            finally:
                self._busy -= 1

        eager_transforms.grad_and_value_impl = differentiate
        return [lambda: setattr(eager_transforms, "grad_and_value_impl", original)]

    def _asked(self, argnums: Any, args: tuple[Any, ...]) -> list[Tensor] | None:
        """The leaves by which to differentiate, if this is how a script trains; None for any other call."""
        if transformed():
            self.unseen += 1
            return None
        try:
            tree = _by(args, argnums)
            named, _ = pytree.tree_flatten_with_path(tree)
            leaves = [leaf for _, leaf in named]
            variables = bool(leaves) and all(isinstance(t, Tensor) and t.is_floating_point() for t in leaves)
            if not variables or not self._trains(leaves):
                return None
            self.trees.meet(tree, named)
        except Exception:  # noqa: BLE001 - what is no tree of variables torch refuses itself
            return None
        return leaves

    def _trains(self, leaves: list[Tensor]) -> bool:
        """One tensor that was computed, or that no optimiser steps where others are stepped, is a point, not a model."""
        if len(leaves) > 1:
            return True
        return leaves[0].grad_fn is None and (self._stepped(leaves) or not list(self.event.optimised()))

    def _stepped(self, leaves: list[Tensor]) -> bool:
        """Does an optimiser step some of these, or what shares their memory?"""
        mine = {memory(t) for t in leaves}
        return any(memory(p) in mine for p in self.event.optimised())

    def _watched(
        self, theirs: Callable[[], Any], leaves: list[Tensor], func: Callable[..., Any], argnums: Any, has_aux: bool,
        args: Any, kwargs: Any,
    ) -> Any:  # fmt: skip
        self.event.close()
        recorder = self.event.recorder()
        if recorder is None or recorder.overflow:
            out = theirs()
            self.event.before([out[1][0] if has_aux else out[1]])
        else:
            out = self._carried_out(recorder, theirs, leaves, func, argnums, has_aux, args, kwargs)
        self.event.after(leaves, pytree.tree_leaves(out[0]), self._stepped(leaves))
        return out

    def _carried_out(
        self, recorder: Recorder, theirs: Callable[[], Any], leaves: list[Tensor], func: Callable[..., Any],
        argnums: Any, has_aux: bool, args: Any, kwargs: Any,
    ) -> Any:  # fmt: skip
        tracked = torch.is_grad_enabled()  # by the user's own autograd, around this
        try:
            with _quietly(recorder):
                mine = [_alias(t, tracked=tracked) for t in leaves]
                args, kwargs, spec = _exchanged(args, kwargs, argnums, mine)
                recorder.adopt(mine, self.trees.recorded(leaves), self.trees.latest)
        except Exception as error:  # noqa: BLE001 - our mistake must not become the user's
            recorder.overflow, recorder.error = True, error
            return theirs()
        with torch.autograd.graph.disable_saved_tensors_hooks(_HOOKS), torch.enable_grad():
            output = func(*args, **kwargs)
            if not _accepted(output, has_aux):
                return theirs()  # which says what is wrong
            loss, aux = output if has_aux else (output, None)
            self.event.before([loss])
            with _quietly(recorder):
                gradients = eager_transforms._autograd_grad(  # noqa: SLF001
                    (loss,), mine, retain_graph=True, create_graph=True
                )
        with _quietly(recorder):
            given = dict(zip(map(id, mine), leaves, strict=True))
            release = _release((gradients, loss, aux), given, tracked=tracked)
            made = pytree.tree_unflatten([release(g) for g in gradients], spec), release(loss)
            return (made[0], (made[1], pytree.tree_map(release, aux))) if has_aux else made


def _accepted(output: Any, has_aux: bool) -> bool:
    """Is this what torch.func takes from a function that it differentiates?"""
    if has_aux:
        if not (isinstance(output, tuple) and len(output) == 2):
            return False
        output, aux = output
        if not all(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(aux)):
            return False
    return isinstance(output, Tensor) and output.dim() == 0


def _by(args: tuple[Any, ...], argnums: Any) -> Any:
    return args[argnums] if isinstance(argnums, int) else tuple(args[i] for i in argnums)


def _alias(tensor: Tensor, *, tracked: bool) -> Tensor:
    """The same memory as a variable of its own, so that only what goes through the arguments is differentiated."""
    if tracked and tensor.requires_grad:
        return tensor.view_as(tensor)
    return tensor.detach().requires_grad_()


def _exchanged(args: Any, kwargs: Any, argnums: Any, mine: list[Tensor]) -> tuple[tuple[Any, ...], Any, Any]:
    """The arguments with `mine` in the place of what they differentiate by, in containers of their own (as torch.func
    gives them), and the structure of that.
    """
    args, kwargs = pytree.tree_map(lambda leaf: leaf, (tuple(args), kwargs))
    spec = pytree.tree_structure(_by(args, argnums))
    new = pytree.tree_unflatten(mine, spec)
    at = [argnums] if isinstance(argnums, int) else list(argnums)
    places = dict(zip((i % len(args) for i in at), [new] if isinstance(argnums, int) else new, strict=True))
    return tuple(places.get(i, arg) for i, arg in enumerate(args)), kwargs, spec


def _release(results: Any, given: dict[int, Tensor], *, tracked: bool) -> Callable[[Any], Any]:
    """Results as torch.func returns them: without a history, but for that of the user's own variables.

    `given`: id of a leaf of ours -> the user's tensor it stands for.
    """
    held = _reaching([t for t in pytree.tree_leaves(results) if isinstance(t, Tensor)], given) if tracked else set()

    def release(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        if id(value) in given:
            return given[id(value)]
        return value if value.grad_fn in held or (tracked and value.is_leaf) else value.detach()

    return release


def _reaching(tensors: list[Tensor], given: dict[int, Tensor]) -> set[Any]:
    """Nodes of the graph from which a variable of the user's is reached."""
    above: dict[Any, list[Any]] = {}
    todo = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen, found = set(todo), []
    while todo:
        node = todo.pop()
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in given:
            found.append(node)
        for child, _ in node.next_functions:
            if child is not None:
                above.setdefault(child, []).append(node)
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
    held = set(found)
    while found:
        new = [p for p in above.get(found.pop(), ()) if p not in held]
        held.update(new)
        found.extend(new)
    return held


@contextmanager
def _quietly(recorder: Recorder) -> Iterator[None]:
    recorder.paused += 1
    try:
        yield
    finally:
        recorder.paused -= 1
