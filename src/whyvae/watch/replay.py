"""Run a tape again: in float64, on chosen inputs, with tensors of it substituted. The user's code is not called.

Every number whyvae quotes about a model comes from here, so nothing a probe does can change the patient:
parameters enter as copies, buffers and data as clones, random draws come from a stream of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from whyvae.watch.tape import DATA, Op, Ref, Tape, rebuild

if TYPE_CHECKING:
    from collections.abc import Iterator

Edit = Callable[[Tensor], Tensor]
_TO_FLOAT = {"float", "half", "bfloat16", "double"}
_MODED = {  # functions that behave differently in training and evaluation, and where their flag stands
    "dropout": 2, "dropout1d": 2, "dropout2d": 2, "dropout3d": 2, "alpha_dropout": 2,
    "feature_alpha_dropout": 2, "batch_norm": 5, "instance_norm": 5, "rrelu": 3,
}  # fmt: skip
NORMALISING = {"batch_norm", "instance_norm"}  # by statistics of the batch, or by running ones
_PICKING = {"__getitem__", "index_select", "narrow", "select"}  # a part of the first argument, its numbers unchanged
LARGE = 2**20  # numbers: of an external tensor of more, parts are widened, not the whole (a data set, a batch of it)


class ReplayFailed(RuntimeError):
    """The tape could not be run again; the message says at which function."""


class Replay:
    """A tape at given parameter values.

    `parameters` maps slots to values; by default the values the parameters hold now. `dtype`: float64, or float32 for
    what is run hundreds of times: convolutions are several times as fast in it. What is fed may be of either.
    """

    def __init__(
        self, tape: Tape, parameters: Mapping[int, Tensor] | None = None, dtype: torch.dtype = torch.float64
    ) -> None:
        self.tape, self.dtype = tape, dtype
        self._needed_cache: dict[tuple[Any, ...], list[int]] = {}
        self.parameters: dict[int, Tensor] = {}
        given = parameters or {}
        self.current = parameters is None
        for slot in tape.slots:
            if slot.trainable and slot.value is not None:
                value = given.get(slot.index, slot.value)
                self.parameters[slot.index] = self._own(value.detach()).requires_grad_()

    @contextmanager
    def holding(self, values: Mapping[int, Tensor]) -> Iterator[None]:
        """Inside, the parameters of these slots have these values; afterwards they are what they were."""
        saved = self.parameters
        self.parameters = {**saved, **values}
        try:
            yield
        finally:
            self.parameters = saved

    def run(
        self,
        targets: Iterable[int],
        *,
        feed: Mapping[int, Tensor] | None = None,
        edit: Mapping[int, Edit] | None = None,
        cut: tuple[frozenset[int], Mapping[int, Tensor]] | None = None,
        training: bool | None = None,
        batch_statistics: bool = False,
        attached: bool = False,
        seed: int = 0,
    ) -> dict[int, Tensor]:
        """Values of the slots in `targets`, dense ones (the links and the features of a graph may be sparse).

        `feed` replaces what a slot holds (nothing above it is run for its sake); `edit` maps a freshly
        made value to another; `cut` = (ops, values): those ops, and only those, see `values` instead of
        the slots' own. `training` overrides the mode of dropout and batch norm; with `batch_statistics` batch norm
        keeps the recorded one. `attached` ignores `detach` and `no_grad`: the dependence of values, not of gradients.
        """
        targets = list(targets)
        feed = {slot: self._wide(value) for slot, value in (feed or {}).items()}
        edit = edit or {}
        env: dict[int, Tensor] = dict(feed)
        inside: dict[int, Tensor] = dict(cut[1]) if cut else {}
        cut_ops = cut[0] if cut else frozenset()
        before: dict[int, Tensor] = {}
        with _quiet_streams(seed), _default(self.dtype):
            for position in self._needed(targets, frozenset(feed)):
                op = self.tape.ops[position]
                in_cut = op.index in cut_ops
                lookup = self._lookup(env, inside, in_cut=in_cut)
                if op.writes:
                    handed = ((env, feed), (inside, cut[1] if cut else {}))
                    _unharmed(op, targets, handed, lookup, before)
                mode = None if batch_statistics and op.name in NORMALISING else training
                picked = self._picked(op, env, lookup)
                result = _call(op, lookup, mode, self.dtype, attached=attached) if picked is None else picked
                for slot, value in _results(op, result, lookup):
                    if slot in feed:
                        continue
                    made = edit[slot](value) if slot in edit else value
                    (inside if in_cut else env)[slot] = made
            outside = self._lookup(env, inside, in_cut=False)
            return {slot: _dense(before[slot] if slot in before else outside(slot)) for slot in targets}

    def flops(self, targets: Iterable[int], feed: Mapping[int, Tensor]) -> float:
        """Floating-point operations of one run forward."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.run(targets, feed=feed)
        return float(counter.get_total_flops())

    def _lookup(self, env: dict[int, Tensor], inside: dict[int, Tensor], *, in_cut: bool) -> Callable[[int], Tensor]:
        def look(slot: int) -> Tensor:
            if in_cut and slot in inside:
                return inside[slot]
            if slot in env:
                return env[slot]
            if slot in inside:
                return inside[slot]
            env[slot] = self.external(slot)
            return env[slot]

        return look

    def external(self, index: int) -> Tensor:
        """What a slot from outside the tape holds, of our `dtype` where it is floating."""
        if index in self.parameters:
            return self.parameters[index]
        return self._own(self._held(index))

    def _own(self, tensor: Tensor) -> Tensor:
        """A copy, of our `dtype` where it is floating."""
        wide = self._wide(tensor)
        return wide.clone() if wide is tensor else wide

    def _wide(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _held(self, index: int) -> Tensor:
        """The user's own tensor."""
        slot = self.tape.slots[index]
        value = slot.live if slot.live is not None and self.current else slot.value
        if value is None:
            raise ReplayFailed(f"tensor {index} of the recorded step was not kept")
        return value.detach()

    def _picked(self, op: Op, env: Mapping[int, Tensor], lookup: Callable[[int], Tensor]) -> Tensor | None:
        """The result of `x[rows]` where x is a large tensor from outside; None for any other op."""
        if op.name not in _PICKING or not op.args or not isinstance(op.args[0], Ref):
            return None
        slot = self.tape.slots[op.args[0].slot]
        fixed = slot.external and slot.index not in self.parameters and slot.storage not in self._written
        if slot.numel <= LARGE or not fixed or slot.index in env:
            return None
        kept = self._held(slot.index)
        result = _call(op, lambda s: kept if s == slot.index else lookup(s), None, self.dtype, attached=False)
        return self._own(result) if isinstance(result, Tensor) else None

    @cached_property
    def _written(self) -> set[int]:
        return {self.tape.slots[s].storage for op in self.tape.ops for s in op.writes}

    def _needed(self, targets: list[int], given: frozenset[int]) -> list[int]:
        key = (tuple(targets), given)
        if key not in self._needed_cache:
            slots = self.tape.slots
            wanted = set(targets) - given
            storages = {slots[s].storage for s in wanted}
            kept: list[int] = []
            for position in range(len(self.tape.ops) - 1, -1, -1):
                op = self.tape.ops[position]
                makes = set(op.outs) - given
                if makes & wanted or any(slots[s].storage in storages for s in op.writes if s not in given):
                    kept.append(position)
                    new = set(op.reads) - given
                    wanted |= new
                    storages |= {slots[s].storage for s in new}
            self._needed_cache[key] = kept[::-1]
        return self._needed_cache[key]


def _dense(value: Tensor) -> Tensor:
    return value if value.layout is torch.strided else value.to_dense()


def _results(op: Op, result: Any, lookup: Callable[[int], Tensor]) -> Iterator[tuple[int, Tensor]]:
    yield from _paired(op.out, result, set(op.outs) | set(op.writes))
    if op.writes:  # what was changed in place, under its new name
        given = {slot for slot, _ in _paired(op.out, result, set(op.writes))}
        old = _written_reads(op)
        for slot, before in zip(op.writes, old, strict=False):
            if slot not in given:
                yield slot, lookup(before)


def _unharmed(
    op: Op, targets: list[int], handed: Iterable[tuple[dict[int, Tensor], Mapping[int, Tensor]]],
    lookup: Callable[[int], Tensor], before: dict[int, Tensor],
) -> None:  # fmt: skip
    """Before `op` changes a tensor in place: a copy into `before` for who asked for its old value; and what was handed
    in (the noise of a probe, a leaf that gradients are wanted for) is changed as a copy only.
    """
    for slot in _written_reads(op):
        if slot in targets:
            before[slot] = lookup(slot).clone()
        for values, given in handed:
            if slot in given:
                values[slot] = values[slot].clone()


def _written_reads(op: Op) -> list[int]:
    """The slots of `reads` that `writes` are the new versions of, in the same order."""
    if op.name in {"batch_norm", "instance_norm"}:
        refs = [
            op.args[i] if len(op.args) > i else op.kwargs.get(k) for i, k in ((1, "running_mean"), (2, "running_var"))
        ]
        return [r.slot for r in refs if isinstance(r, Ref)]
    if isinstance(op.kwargs.get("out"), Ref):
        return [op.kwargs["out"].slot]
    return list(op.reads[: len(op.writes)])


def _paired(template: Any, value: Any, wanted: set[int]) -> Iterator[tuple[int, Tensor]]:
    if isinstance(template, Ref):
        if template.slot in wanted:
            yield template.slot, value
    elif isinstance(template, (list, tuple)):
        for t, v in zip(template, value, strict=True):
            yield from _paired(t, v, wanted)
    elif isinstance(template, dict):
        for key, t in template.items():
            yield from _paired(t, value[key], wanted)


def _call(op: Op, lookup: Callable[[int], Tensor], training: bool | None, dtype: torch.dtype, *, attached: bool) -> Any:
    args = rebuild(op.args, lambda ref: lookup(ref.slot), Ref)
    kwargs = rebuild(op.kwargs, lambda ref: lookup(ref.slot), Ref)
    args, kwargs = _in_dtype(op, args, kwargs, dtype)
    if training is not None and op.name in _MODED:
        args, kwargs = _in_mode(op.name, args, kwargs, training=training)
    try:
        with torch.set_grad_enabled((op.grad or attached) and torch.is_grad_enabled()):
            if attached and (op.name in {"detach", "detach_"} or op.func == DATA):
                return args[0]
            if op.name in _TO_FLOAT:
                return args[0].to(dtype)
            if op.name == "grad":  # inside the step; the step's own gradients come after it
                kwargs = {**kwargs, "retain_graph": True}
            return op.func(*args, **kwargs)
    except Exception as error:
        line = f" (line {op.place.line} of {Path(op.place.file).name})" if op.place else ""
        raise ReplayFailed(f"`{op.name}`{line} could not be run again: {error}") from error


def _in_dtype(op: Op, args: Any, kwargs: Any, wanted: torch.dtype) -> tuple[Any, Any]:
    def widened(dtype: torch.dtype) -> torch.dtype:
        return wanted if dtype.is_floating_point else dtype

    args = rebuild(args, widened, torch.dtype)
    kwargs = {k: v for k, v in rebuild(kwargs, widened, torch.dtype).items() if k not in {"generator", "pin_memory"}}
    if op.random and "generator" in op.kwargs:
        kwargs.pop("generator", None)
    args = tuple(a for a in args if not isinstance(a, torch.Generator))
    if op.name == "type" and len(args) > 1 and isinstance(args[1], (str, type)):
        args = (
            args[0],
            wanted if "Float" in str(args[1]) or "Half" in str(args[1]) else args[1],
        )
    return args, kwargs


def _in_mode(name: str, args: Any, kwargs: Any, *, training: bool) -> tuple[Any, Any]:
    if name in NORMALISING and not isinstance(kwargs.get("running_mean", args[1] if len(args) > 1 else None), Tensor):
        return args, kwargs  # no running statistics: the batch's own are used in both modes
    position = _MODED[name]
    if len(args) > position:
        return (*args[:position], training, *args[position + 1 :]), kwargs
    return args, {**kwargs, "use_input_stats" if name == "instance_norm" else "training": training}


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _quiet_streams(seed: int) -> Iterator[None]:
    """Our own random streams inside, the user's untouched outside. (`torch.manual_seed` formats a stack trace.)"""
    generators = [torch.default_generator]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    states = [g.get_state() for g in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
