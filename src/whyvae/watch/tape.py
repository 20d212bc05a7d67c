"""A recorded step: the torch functions a user's code called, in order, as a program that can run again.

Nothing here knows what a VAE is. Tensors become numbered slots. What a slot held is kept only where the program cannot
compute it: parameters (by reference) and data (by copy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Place(NamedTuple):
    """A line of source."""

    file: str
    line: int


class Frame(NamedTuple):
    """Where in its source a running function was: `code.co_positions()` of the instruction, resolved when asked for."""

    code: CodeType
    instruction: int

    @property
    def span(self) -> tuple[int, int, int, int] | None:
        """(line, end line, column, end column in bytes) of the expression it was evaluating."""
        span = next(islice(self.code.co_positions(), self.instruction, None), (None,) * 4)
        line, end, column, end_column = span
        if line is None or end is None or column is None or end_column is None:
            return None
        return line, end, column, end_column


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for a tensor in the arguments and results of an `Op`."""

    slot: int


@dataclass(slots=True)
class Op:
    """One call of a torch function."""

    index: int
    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any  # structure of Refs and constants
    reads: tuple[int, ...]
    outs: tuple[int, ...]
    writes: tuple[int, ...]  # new slots for what `reads` held and this call changed in place
    grad: bool  # was autograd on?
    place: Place | None
    random: bool = False  # draws from a random stream
    frames: tuple[Frame, ...] = ()  # of the user's code, from `place` outwards
    turn: int = 0  # calls of this function at this line before it, in this window, autograd on
    first: tuple[float, ...] = ()  # of what was drawn, the first numbers


@dataclass(slots=True)
class Slot:
    """A tensor of the tape. `external`: it came from outside, and `value` is what it held."""

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool
    leaf: bool
    storage: int  # equal for tensors that share memory: a write through one is seen by the others
    parameter: bool = False
    external: bool = False
    opaque: bool = False  # has a history that the tape did not see
    value: Tensor | None = None
    live: Tensor | None = None  # the tensor itself, when the step changed it in place (running statistics)
    grown: tuple[Any, int] | None = None  # of which tree of parameters, and where in it (`watch.functional`)

    @property
    def numel(self) -> int:
        n = 1
        for size in self.shape:
            n *= size
        return n

    @property
    def trainable(self) -> bool:
        return self.external and self.leaf and self.requires_grad


@dataclass(slots=True)
class Tape:
    """A program: `ops` over `slots`; `roots` are the slots on which `backward` was called."""

    ops: list[Op] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    step: int = 0  # optimiser steps done before it
    autocast: bool = False
    compiled: bool = False

    def producers(self) -> dict[int, int]:
        """Slot -> index (in `ops`) of the op that last gave it a value."""
        made: dict[int, int] = {}
        for position, op in enumerate(self.ops):
            for slot in (*op.outs, *op.writes):
                made[slot] = position
        return made

    def sliced(self) -> Tape:
        """Only what the roots need (an op that writes in place is kept if what it writes is needed)."""
        needed = set(self.roots)
        kept: list[Op] = []
        memory = {self.slots[slot].storage for slot in needed}
        for op in reversed(self.ops):
            if not needed.isdisjoint(op.outs) or any(self.slots[s].storage in memory for s in op.writes):
                kept.append(op)
                needed.update(op.reads)
                memory.update(self.slots[s].storage for s in op.reads)
        kept.reverse()
        return Tape(kept, self.slots, self.roots, self.step, self.autocast, self.compiled)

    def negate(self) -> None:
        """Goes on to minus the roots: what is climbed as a loss that is descended, which all that reads a tape takes it for."""
        after = max((op.index for op in self.ops), default=0)
        storage = max((s.storage for s in self.slots), default=0)
        below: dict[int, int] = {}
        for n, root in enumerate(dict.fromkeys(self.roots), 1):
            made = below[root] = len(self.slots)
            self.slots.append(replace(self.slots[root], index=made, leaf=False, storage=storage + n))
            self.ops.append(
                Op(
                    after + n,
                    torch.neg,
                    "neg",
                    (Ref(root),),
                    {},
                    Ref(made),
                    (root,),
                    (made,),
                    (),
                    grad=True,
                    place=None,
                )
            )
        self.roots = [below[root] for root in self.roots]

    def merged(self) -> Tape:
        """What was computed twice from the same tensors, once: an encoder run again for the KL gives no second mu."""
        changed = {self.slots[s].storage for op in self.ops for s in op.writes}
        same: dict[int, int] = {}  # slot -> the slot that held the same before it
        seen: dict[Any, Op] = {}
        ops: list[Op] = []
        for op in self.ops:
            if same and not same.keys().isdisjoint(op.reads):
                op = renamed(op, same)
            key = _key(op, self.slots, changed)
            first = seen.setdefault(key, op) if key is not None else op
            if first is not op and len(first.outs) == len(op.outs):
                same.update(zip(op.outs, first.outs, strict=True))
                if not op.writes:
                    continue
            ops.append(op)
        roots = [same.get(s, s) for s in self.roots]
        return Tape(ops, self.slots, roots, self.step, self.autocast, self.compiled)

    def parameter_ids(self) -> set[int]:
        """ids of the parameters that the program was run with."""
        return {id(s.value) for s in self.slots if s.trainable and s.value is not None}

    def shape_key(self) -> int:
        """Equal for two tapes of the same program (so that data of one can be fed to the other)."""
        return hash(tuple((op.name, len(op.reads), tuple(self.slots[o].shape for o in op.outs)) for op in self.ops))

    def program_key(self) -> int:
        """As `shape_key`, whatever the shapes of what no gradient passes: how many examples of a batch a mask picked, say."""
        learning = ((op, [self.slots[o] for o in op.outs]) for op in self.ops)
        return hash(
            tuple((op.name, len(op.reads), tuple(o.shape for o in outs if o.requires_grad)) for op, outs in learning)
        )


def renamed(op: Op, same: dict[int, int]) -> Op:
    """`op`, reading other slots: those that `same` gives."""

    def name(ref: Ref) -> Ref:
        return Ref(same.get(ref.slot, ref.slot))

    reads = tuple(same.get(r, r) for r in op.reads)
    return replace(op, args=rebuild(op.args, name, Ref), kwargs=rebuild(op.kwargs, name, Ref), reads=reads)


def _key(op: Op, slots: list[Slot], changed: set[int]) -> Any:
    """Equal for two calls that must give the same; None where nothing is promised."""
    if op.random or not op.outs or op.name in _UNREPEATABLE or "dropout" in op.name:
        return None
    args, kwargs = op.args, op.kwargs
    if op.name == "batch_norm":  # in training its running statistics are written, not read
        if kwargs.get("training", args[5] if len(args) > 5 else None) is not True:
            return None
        args = (args[0], *args[3:])
        kwargs = {k: v for k, v in kwargs.items() if not k.startswith("running_")}
    elif op.writes or kwargs.get("dropout_p"):
        return None
    if any(slots[s].storage in changed for s in (*refs_in(args), *refs_in(kwargs))):
        return None
    key = (id(op.func), op.grad, _frozen(args), _frozen(kwargs))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _frozen(value: Any) -> Any:
    """Hashable where its parts are; 1, 1.0 and True stay three things."""
    if isinstance(value, list | tuple):
        return (type(value), *(_frozen(item) for item in value))
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in sorted(value.items()))
    if isinstance(value, slice):
        return (slice, value.start, value.stop, value.step)
    return (type(value), value)


_UNREPEATABLE = {
    "apply", "lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward", "rrelu", "grad", "gumbel_softmax",
    "fractional_max_pool2d", "fractional_max_pool3d",
}  # fmt: skip
# what reading `t.data` calls: an op of a tape, and a way out of the graph
DATA = Tensor.data.__get__  # type: ignore[attr-defined]
RANDOM = {
    "randn", "randn_like", "normal", "normal_", "rand", "rand_like", "uniform_", "bernoulli", "bernoulli_",
    "exponential_", "multinomial", "cauchy_", "log_normal_", "geometric_", "_sample_dirichlet",
    "_standard_gamma", "poisson", "binomial", "random_",
}  # fmt: skip


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


def refs_in(value: Any) -> Iterator[int]:
    if isinstance(value, Ref):
        yield value.slot
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from refs_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from refs_in(item)


def rebuild(value: Any, leaf: Callable[[Any], Any], kind: type) -> Any:
    """`value` with each instance of `kind` in it (through lists, tuples, dicts) replaced by `leaf(it)`."""
    if isinstance(value, kind):
        return leaf(value)
    if type(value) is list:
        return [rebuild(item, leaf, kind) for item in value]
    if isinstance(value, tuple) and not isinstance(value, torch.Size):
        items = [rebuild(item, leaf, kind) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if type(value) is dict:
        return {key: rebuild(item, leaf, kind) for key, item in value.items()}
    return value
