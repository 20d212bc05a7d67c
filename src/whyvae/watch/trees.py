"""Parameters known by their place in the containers a script differentiates by, where each step makes new tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils import _pytree as pytree

from whyvae.watch.names import Named
from whyvae.watch.renewed import take_as_parameters, variables

if TYPE_CHECKING:
    from whyvae.watch.recorder import Recorder
    from whyvae.watch.step import Step

Key = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each leaf


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
        owned = {memory(p): p for p in self._owners()}
        return [owned.get(memory(leaf), leaf) for leaf in leaves]

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


def memory(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for tensors of one shape in the same memory."""
    try:
        return tensor.data_ptr(), tuple(tensor.shape)
    except (RuntimeError, ValueError):  # it has none (yet): sparse, not initialised
        return id(tensor), ()


def _path(path: Any) -> str:
    """("enc", 0, "w") as `enc.0.w`."""
    return ".".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
