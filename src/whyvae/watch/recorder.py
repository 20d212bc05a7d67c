"""Writes a tape: sees every torch function that is called while it is active, and runs it unchanged."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from whyvae.watch import mapped
from whyvae.watch.custom import see_custom_functions
from whyvae.watch.places import calling_frames
from whyvae.watch.tape import DATA, RANDOM, Op, Place, Ref, Slot, Tape, rebuild, tensors_in

LARGEST_COPY = 32 * 2**20  # bytes: a data tensor above this is kept by reference, not copied
MOST_OPS = 50_000  # a longer window is not a training step (a whole evaluation ran in it): given up
FIRST = 4  # numbers of a draw that are kept: two draws agree in so many by no chance
_GRAD: Any = vars(Tensor.__base__)["grad"].__get__  # left by a backward that no tape shows
_STATISTICS = {"batch_norm", "instance_norm"}  # write what later steps, and evaluation, read
_INPLACE_DUNDER = {
    "__setitem__",
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__idiv__",
    "__ipow__",
}
_UNRECORDED = {
    "requires_grad_",
    "retain_grad",
    "register_hook",
    "backward",
    "__set__",
    "__deepcopy__",
    "share_memory_",
}


class Recorder(TorchFunctionMode):
    """Writes down each torch function called while it is on the stack, and runs it unchanged.

    `standby` postpones writing until the first op that autograd follows: the start of a script (reading
    data, initialising weights) is of no interest and may be long; only random draws are noted then.
    """

    def __init__(self, step: int = 0, *, standby: bool = False) -> None:
        super().__init__()
        self.tape = Tape(step=step)
        self.standby = standby
        self.paused = 0
        self.overflow = False
        self.spent = 0.0  # seconds, our own only
        self.error: Exception | None = None
        self.refused = 0  # numbers that are none, in batches that no gradient came from
        self._shared: dict[int, int] = {}
        self._slot_of: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._memory: dict[int, int] = {}  # address of an external tensor's memory -> Slot.storage
        self._turns: dict[tuple[str, Place | None], int] = {}
        self._data: dict[int, tuple[StorageWeakRef, int]] = {}  # of `t.data`: by its memory, that memory and its slot

    def __enter__(self) -> Self:
        see_custom_functions(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exc: object) -> None:
        see_custom_functions(None)
        super().__exit__(*exc)  # type: ignore[no-untyped-call]

    def custom(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of an autograd function of the user's: one op, whatever it does inside."""

        def quiet(*args: Any, **kwargs: Any) -> Any:
            self.paused += 1
            try:
                return func(*args, **kwargs)
            finally:
                self.paused -= 1

        if self.paused or self.overflow or self.standby or transformed():
            return func(*args, **kwargs)
        before = len(self.tape.ops)
        quiet.__name__ = "apply"
        out = self.__torch_function__(quiet, (), args, kwargs)
        for op in self.tape.ops[before:]:
            op.func = func
        return out

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.paused or self.overflow:
            return func(*args, **kwargs)
        many = transformed()
        if many and not mapped.inside():
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "?")
        if self.standby:
            return self._stand_by(func, name, args, kwargs, many=many)
        if name in _UNRECORDED or func == _GRAD:
            return func(*args, **kwargs)
        begin = time.perf_counter()
        given, given_kwargs = mapped.batches((args, kwargs)) if many else (args, kwargs)
        inputs = list(tensors_in(given)) + list(tensors_in(given_kwargs))
        written = _written(name, given, given_kwargs)
        reads = tuple(self._slot(t) for t in inputs)
        for tensor in written:
            self._before_write(name, tensor)
        frozen_args = rebuild(given, self._ref, Tensor)
        frozen_kwargs = rebuild(given_kwargs, self._ref, Tensor)
        grad = torch.is_grad_enabled()
        called = time.perf_counter()
        out = func(*args, **kwargs)
        done = time.perf_counter()
        try:
            self._shared = {_address(t): self.tape.slots[s].storage for t, s in zip(inputs, reads, strict=True)}
            noted = func if not many else mapped.of_batches(func, (args, kwargs), out)
            made = mapped.batches(out) if many else out
            self._note(noted, name, frozen_args, frozen_kwargs, reads, written, made, grad=grad)
        except Exception as error:  # noqa: BLE001 - our mistake must not become the user's
            self.overflow, self.error = True, error
        self.spent += (called - begin) + (time.perf_counter() - done)
        return out

    def _note(
        self, func: Callable[..., Any], name: str, args: Any, kwargs: Any, reads: tuple[int, ...],
        written: list[Tensor], out: Any, *, grad: bool,
    ) -> None:  # fmt: skip
        random = name in RANDOM
        results = list(tensors_in(out))
        if random and not any(t.is_floating_point() for t in results):
            return  # which examples were picked (`randperm`, `randint`): part of the step's data
        if (not results and not written) or (not reads and not random):
            return  # a question (a size, a number), or a constant: it becomes external when it is used
        if len(self.tape.ops) >= MOST_OPS:
            self.overflow = True
            return
        if name == "broadcast_tensors":  # each result depends on its own argument only
            flat = list(args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args)
            for arg, result in zip(flat, results, strict=True):
                self._note(
                    Tensor.expand,
                    "expand",
                    (arg, tuple(result.shape)),
                    {},
                    (arg.slot,),
                    [],
                    result,
                    grad=grad,
                )
            return
        if not written and results and all(self._known(t) for t in results):
            return  # the tensor itself came back (`contiguous`, `to`, `expand` with nothing to do)
        if name == "normal" and reads and isinstance(out, Tensor):
            self._note_drawn(args, kwargs, out)
            return
        if written and all(self._is_parameter(t) for t in written):
            self._forget_memory({self.tape.slots[self._slot(t)].storage for t in written})
            return  # stepped by hand: from here on it is another one
        place, frames = calling_frames()
        writes = tuple(self._new_slot(t, external=False) for t in written)  # a new version of the tensor
        fresh = [t for t in results if not any(t is w for w in written) and not self._known(t)]
        for tensor in fresh:
            self._new_slot(tensor, external=False)
        template = rebuild(out, self._ref, Tensor)
        outs = tuple(self._slot(t) for t in results if not any(t is w for w in written))
        if func == DATA and outs:
            memory = StorageWeakRef(results[0].untyped_storage())
            self._data[memory.cdata] = memory, outs[0]
        turn = self._turns.get((name, place), 0)
        self._turns[name, place] = turn + grad
        self.tape.ops.append(
            Op(
                len(self.tape.ops),
                func,
                name,
                args,
                kwargs,
                template,
                reads,
                outs,
                writes,
                grad,
                place,
                random,
                frames,
                turn,
                _first(results[0]) if random else (),
            )
        )

    def _note_drawn(self, args: Any, kwargs: Any, out: Tensor) -> None:
        """`torch.normal(mean, std)` as what it does: a standard draw, scaled and shifted, nothing differentiated."""
        mean = args[0] if args else kwargs.get("mean", 0.0)
        std = args[1] if len(args) > 1 else kwargs.get("std", 1.0)
        eps, ops = len(self.tape.slots), self.tape.ops
        place, frames = calling_frames()
        self.tape.slots.append(Slot(eps, tuple(out.shape), out.dtype, False, True, -1 - eps))
        ops.append(
            Op(
                len(ops),
                torch.randn,
                "randn",
                (tuple(out.shape),),
                {},
                Ref(eps),
                (),
                (eps,),
                (),
                False,
                place,
                True,
                frames,
            )
        )
        made = self._new_slot(out, external=False)
        reads = (*(r.slot for r in (mean, std) if isinstance(r, Ref)), eps)
        ops.append(
            Op(
                len(ops),
                _affine,
                "normal_affine",
                (mean, std, Ref(eps)),
                {},
                Ref(made),
                reads,
                (made,),
                (),
                False,
                place,
                frames=frames,
            )
        )

    def _stand_by(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, many: bool
    ) -> Any:
        """Nothing is written down until a function's result has a gradient history, but for random draws."""
        grad = torch.is_grad_enabled()
        result = out = func(*args, **kwargs)
        if many:
            func = mapped.of_batches(func, (args, kwargs), out)
            args, kwargs, out = mapped.batches((args, kwargs, out))
        if grad and name not in _UNRECORDED and any(t.grad_fn is not None for t in tensors_in(out)):
            self.standby = False
            self._forget_parameters()
        elif name not in RANDOM:
            return result
        inputs = [t for t in (*tensors_in(args), *tensors_in(kwargs)) if t is not out]
        written = [t for t in _written(name, args, kwargs) if t is out]
        reads = tuple(self._slot(t) for t in (*inputs, *written))
        frozen = rebuild(args, self._ref, Tensor), rebuild(kwargs, self._ref, Tensor)
        self._shared = {
            _address(t): self.tape.slots[s].storage for t, s in zip((*inputs, *written), reads, strict=True)
        }
        self._note(func, name, *frozen, reads, written, out, grad=grad)
        return result

    def _forget_parameters(self) -> None:
        """What was drawn before the first step and is trained now (or gone) was an initialisation, not noise."""
        self._slot_of = {
            key: (ref, slot)
            for key, (ref, slot) in self._slot_of.items()
            if (tensor := ref()) is not None and not tensor.requires_grad
        }
        kept = {slot for _, slot in self._slot_of.values()}
        self.tape.ops = [op for op in self.tape.ops if not kept.isdisjoint((*op.outs, *op.writes))]
        self._memory.clear()

    def _is_parameter(self, tensor: Tensor) -> bool:
        """A leaf that requires gradients, or its `.data`."""
        if tensor.requires_grad:
            return tensor.is_leaf
        made = self.tape.slots[self._slot(tensor)]
        return made.shape == self.tape.slots[made.storage].shape and self.tape.slots[made.storage].trainable

    def _forget_memory(self, storages: set[int]) -> None:
        slots = self.tape.slots
        self._slot_of = {k: entry for k, entry in self._slot_of.items() if slots[entry[1]].storage not in storages}
        self._memory = {address: slot for address, slot in self._memory.items() if slot not in storages}

    def adopt(self, aliases: list[Tensor], leaves: list[Tensor], tree: Any) -> None:
        """From here on each of `aliases` is a parameter: the leaf of `tree` with the same memory."""
        if self.standby:
            self.standby = False
            self._forget_parameters()
        for number, (alias, leaf) in enumerate(zip(aliases, leaves, strict=True)):
            index = len(self.tape.slots)
            slot = Slot(index, tuple(leaf.shape), leaf.dtype, True, True, index, isinstance(leaf, nn.Parameter), True)
            slot.value, slot.grown = leaf, (tree, number)
            self.tape.slots.append(slot)
            self._slot_of[id(alias)] = (weakref.ref(alias), index)

    def count_anew(self) -> None:
        """After a `backward`: of several micro-batches, each is counted like the first."""
        self._turns.clear()

    # ------------------------------------------------------------------ slots
    def slot_of(self, tensor: Tensor) -> int | None:
        entry = self._slot_of.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def living(self) -> list[tuple[Tensor, int]]:
        """The tensors it knows that are still there, and their slots."""
        return [(tensor, slot) for ref, slot in self._slot_of.values() if (tensor := ref()) is not None]

    def _known(self, tensor: Tensor) -> bool:
        return self.slot_of(tensor) is not None

    def _ref(self, tensor: Tensor) -> Ref:
        return Ref(self._slot(tensor))

    def _slot(self, tensor: Tensor) -> int:
        slot = self.slot_of(tensor)
        slot = self._wrapped(tensor) if slot is None else slot
        return self._new_slot(tensor, external=True) if slot is None else slot

    def _wrapped(self, tensor: Tensor) -> int | None:
        """The slot of `t.data`, of which `tensor` is `Variable(t.data)`: another object, made by no function, with its memory."""
        if not self._data or tensor.requires_grad or tensor.layout is not torch.strided:
            return None
        memory, slot = self._data.get(StorageWeakRef(tensor.untyped_storage()).cdata, (None, -1))
        if memory is None or memory.expired() or tuple(tensor.shape) != self.tape.slots[slot].shape:
            return None
        self._slot_of[id(tensor)] = (weakref.ref(tensor), slot)
        return slot

    def _new_slot(self, tensor: Tensor, *, external: bool) -> int:
        index = len(self.tape.slots)
        slot = Slot(
            index, tuple(tensor.shape), tensor.dtype, tensor.requires_grad, tensor.is_leaf,
            self._storage(tensor, index, external=external), isinstance(tensor, nn.Parameter), external,
            opaque=external and tensor.grad_fn is not None, value=tensor if external else None,
        )  # fmt: skip
        self.tape.slots.append(slot)
        self._slot_of[id(tensor)] = (weakref.ref(tensor), index)
        return index

    def _storage(self, tensor: Tensor, index: int, *, external: bool) -> int:
        """Addresses are compared among living tensors only: freed memory is given out again."""
        address = _address(tensor)
        if address == 0:
            return index
        if external:
            return self._memory.setdefault(address, index)
        return self._shared.get(address, index)

    def _before_write(self, name: str, tensor: Tensor) -> None:
        """An external value about to be overwritten is copied first."""
        slot = self.tape.slots[self._slot(tensor)]
        if slot.external and slot.value is tensor and not slot.trainable:
            unread = name in _FILLS and not any(slot.index in op.reads for op in self.tape.ops)
            # memory that is to be filled held anything
            slot.value = torch.zeros_like(tensor) if unread else tensor.detach().clone()
            slot.live = tensor if name in _STATISTICS else None

    def finished(self) -> Tape:
        """The slice of the tape that its roots need, its data copied so that later changes do not reach it."""
        tape = self.tape.merged().sliced()
        used = {slot for op in tape.ops for slot in op.reads}
        self.refused = not_finite(self.tape, data_shapes(tape), used)
        for slot in self.tape.slots:
            if slot.index not in used:
                slot.value = slot.live = None
            elif slot.value is not None and not slot.parameter and not slot.trainable:
                slot.value = copied(slot.value)
        tape.autocast = self.tape.autocast
        return tape


def data_shapes(tape: Tape) -> set[tuple[int, ...]]:
    """Of the tensors from outside that the ops of `tape` read, and that are no parameters. What has the shape of one may be
    its gradient, whose norm is logged.
    """
    read = [tape.slots[s] for op in tape.ops for s in op.reads]
    weights = {s.shape for s in read if s.parameter or s.trainable}
    return {s.shape for s in read if s.external and not s.parameter and len(s.shape) > 1} - weights


def not_finite(tape: Tape, shapes: set[tuple[int, ...]], used: set[int]) -> int:
    """Numbers that are none, in tensors from outside that look like data (of one of `shapes`) and are not in `used`: of
    batches that the script looked at and left out. What is filled before it is looked at is memory, and held anything.
    """
    filled = {slot for op in tape.ops if op.name in _FILLS for slot in (*op.reads[:1], *op.writes)}
    others = [
        s.value for s in tape.slots
        if s.external and not s.parameter and not s.trainable and s.index not in used | filled and s.shape in shapes
        and s.value is not None and s.value.is_floating_point() and s.value.layout is torch.strided
    ]  # fmt: skip
    return sum(int((~torch.isfinite(v.detach())).sum()) for v in others)


def _first(drawn: Tensor) -> tuple[float, ...]:
    with torch._C.DisableTorchFunction():  # noqa: SLF001 - another recorder may stand below, and would write this down
        return tuple(drawn.detach().flatten()[:FIRST].tolist())


def transformed() -> bool:
    """Is this inside `vmap` or a derivative of torch.func, or is it being traced? Tensors are wrapped there: no program of
    a step holds them; and a trace would record what we do.
    """
    inside = torch._C._functorch.peek_interpreter_stack() is not None  # noqa: SLF001 - there is no public name for it
    return inside or torch._C._get_tracing_state() is not None  # noqa: SLF001 - as torch.jit.is_tracing, which has no types


def _affine(mean: Any, std: Any, eps: Tensor) -> Tensor:
    result: Tensor = mean + std * eps
    return result


def copied(tensor: Tensor) -> Tensor:
    """A copy; above LARGEST_COPY the tensor itself."""
    bytes_ = tensor.numel() * tensor.element_size()
    return tensor.detach().clone() if bytes_ <= LARGEST_COPY else tensor.detach()


def _address(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


_FILLS = {
    "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_", "zero_", "fill_",
    "copy_",
}  # fmt: skip
_ACTIVATIONS_IN_PLACE = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardtanh", "hardswish", "hardsigmoid",
    "threshold", "rrelu", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
}  # fmt: skip


def _written(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors this call changes in place."""
    if isinstance(kwargs.get("out"), Tensor):
        return [kwargs["out"]]
    if (name.endswith("_") and not name.endswith("__")) or name in _INPLACE_DUNDER:
        first = args[0] if args else next(iter(kwargs.values()), None)
        return [first] if isinstance(first, Tensor) else list(tensors_in(first))
    if name in _ACTIVATIONS_IN_PLACE and (kwargs.get("inplace") or (args and args[-1] is True and len(args) > 1)):
        inplace = kwargs.get("inplace")
        return [args[0]] if inplace or (inplace is None and "dropout" not in name) or len(args) > 3 else []
    if name in _STATISTICS:  # running statistics
        running = [args[i] if len(args) > i else kwargs.get(k) for i, k in ((1, "running_mean"), (2, "running_var"))]
        return [t for t in running if isinstance(t, Tensor)]
    return []
