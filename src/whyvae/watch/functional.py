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

from whyvae.watch.names import Named, Registry
from whyvae.watch.renewed import take_as_parameters, variables
from whyvae.watch.tape import transformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.watch.step import Step
    from whyvae.watch.tape import Recorder

Key = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each leaf
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
        mine = {_memory(t) for t in leaves}
        return any(_memory(p) in mine for p in self.event.optimised())

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


class Trees:
    """The trees of parameters a script differentiates by. Its steps may make new tensors: leaves are known by their place.

    A leaf that shares its memory with a module's parameter (`{k: p.detach() ...}`) is that parameter.
    """

    def __init__(self, owners: Callable[[], Iterable[Tensor]]) -> None:
        self._owners = owners
        self.latest: Key = ()
        self.root: Tensor | None = None  # the last loss of a training whose parameters no optimiser steps
        self._trees: dict[Key, tuple[Any, list[Tensor]]] = {}  # the user's own containers, and the last leaves in them
        self._first: dict[
            Key, list[Tensor]
        ] = {}  # the leaves of the first recorded step: what others knew by their ids

    def meet(self, tree: Any, named: list[tuple[Any, Tensor]]) -> None:
        leaves = [leaf for _, leaf in named]
        self.latest = tuple((_path(path), tuple(leaf.shape)) for path, leaf in named)
        self._trees[self.latest] = tree, leaves

    def recorded(self, leaves: list[Tensor]) -> list[Tensor]:
        """What the leaves of a recorded call are known as."""
        known = self.own(leaves)
        self._first.setdefault(self.latest, known)
        return known

    def meet_variables(self, recorder: Recorder, asked: list[Tensor]) -> None:
        """Before a backward from `root` whose parameters no optimiser steps: are they made anew?"""
        anew = take_as_parameters(recorder, asked)
        leaves = [] if self.root is None else variables(self.root)
        key = tuple(("", tuple(leaf.shape)) for leaf in leaves)
        for number, leaf in enumerate(leaves):
            slot = recorder.slot_of(leaf)
            if slot is not None and recorder.tape.slots[slot].trainable:
                recorder.tape.slots[slot].grown = key, number
        if anew:
            self._first.setdefault(key, leaves)
            self._trees[key] = leaves, leaves

    def now(self, key: Key) -> list[Tensor]:
        """The leaves as they are now: updated in the script's own containers, or those it gave last."""
        tree, last = self._trees[key]
        leaves = pytree.tree_leaves(tree)
        same = len(leaves) == len(last) and all(
            isinstance(leaf, Tensor) and leaf.shape == old.shape for leaf, old in zip(leaves, last, strict=True)
        )
        return self.own(leaves if same else last)

    def own(self, leaves: list[Tensor]) -> list[Tensor]:
        """For each leaf the parameter whose memory it shares; itself where it has its own."""
        owned = {_memory(p): p for p in self._owners()}
        return [owned.get(_memory(leaf), leaf) for leaf in leaves]

    def known(self) -> dict[int, int]:
        """id of a leaf now -> id of the leaf that stood in its place first."""
        return {
            id(leaf): id(first)
            for key, firsts in self._first.items()
            for leaf, first in zip(self.now(key), firsts, strict=True)
        }

    def settled(self, met: list[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
        """(id of a weight, what met it), with the weight's id as `settle` leaves it."""
        ids = {first: now for now, first in self.known().items()}
        return [(ids.get(weight, weight), value) for weight, value in met]

    def settle(self, steps: list[Step]) -> dict[int, Named]:
        """Lets the parameters of recorded steps be those the run ended with; id of each -> its name."""
        last = [] if self.root is None else variables(self.root)
        key = tuple(("", tuple(leaf.shape)) for leaf in last)
        if key in self._trees:
            self._trees[key] = last, last
        values = {key: self.now(key) for key in self._trees}
        for step in steps:
            for slot in step.tape.slots:
                if slot.grown is not None and slot.grown[0] in values and slot.value is not None:
                    slot.value = values[slot.grown[0]][slot.grown[1]]
        return {
            id(leaf): Named(name, "")
            for key, leaves in values.items()
            for leaf, (name, _) in zip(leaves, key, strict=True)
            if name
        }


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


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    try:
        return tensor.data_ptr(), tuple(tensor.shape)
    except (RuntimeError, ValueError):  # it has none (yet): sparse, not initialised
        return id(tensor), ()


def _path(path: Any) -> str:
    """("enc", 0, "w") as `enc.0.w`."""
    return ".".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)


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
