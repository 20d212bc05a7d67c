"""Which slots of a tape are made from which, and what kinds of functions make them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from whyvae.watch.tape import Op, Tape

RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
MIXING = RECURRENT | {
    "linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "addbmm",
    "einsum", "tensordot", "inner", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "embedding", "embedding_bag", "multi_head_attention_forward", "scaled_dot_product_attention", "chain_matmul",
    "multi_dot", "dot", "kron", "_sparse_mm", "spmm", "smm",
}  # fmt: skip
PRODUCTS = {"mm", "matmul", "__matmul__", "__rmatmul__", "bmm", "einsum", "addmm", "_sparse_mm", "spmm", "smm"}
LOSSES = {
    "mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "l1_loss", "smooth_l1_loss", "huber_loss",
    "cross_entropy", "nll_loss", "gaussian_nll_loss", "poisson_nll_loss", "kl_div", "cosine_similarity", "dist",
    "soft_margin_loss", "pairwise_distance", "cosine_embedding_loss", "hinge_embedding_loss",
}  # fmt: skip
GATHERING = {
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "pad",
}  # fmt: skip
PICKING = {
    "__getitem__", "index_select", "take", "gather", "stack", "cat", "embedding", "take_along_dim",
}  # fmt: skip
COMPARING = {
    "__eq__", "__ne__", "__lt__", "__gt__", "__le__", "__ge__", "eq", "ne", "lt", "gt", "le", "ge", "isnan",
}  # fmt: skip
SHAPED_LIKE = {
    "zeros_like", "ones_like", "full_like", "empty_like", "randn_like", "rand_like", "randint_like", "new_zeros",
    "new_ones", "new_full", "new_empty", "new_tensor", "new",
}  # fmt: skip
_LIKE_ANOTHER = {"view_as", "reshape_as", "expand_as", "type_as"}


class Dependencies:
    """Which slots of a tape are made from which: noise, data, parameters.

    `formula`: what decodes may be a formula without layers (distances of nodes, an equation of motion).
    """

    def __init__(self, tape: Tape, *, formula: bool = False) -> None:
        self.tape, self.formula = tape, formula
        self.producer = tape.producers()
        self.position = {op.index: i for i, op in enumerate(tape.ops)}

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for position, op in enumerate(self.tape.ops):
            for slot in op.reads:
                found.setdefault(slot, []).append(position)
        return found

    def descendants(self, start: Iterable[int], *, through: set[int] | None = None) -> set[int]:
        """Slots made from `start` (included); `through` limits the ops (positions) that may be passed."""
        reached = set(start)
        for position, op in enumerate(self.tape.ops):
            if (through is None or position in through) and not reached.isdisjoint(uses(op)):
                reached.update(op.outs)
                reached.update(op.writes)
        return reached

    def ancestors(self, end: Iterable[int], *, stop: set[int] | None = None) -> set[int]:
        """Slots from which `end` (included) is made; not beyond the slots in `stop`."""
        reached = set(end)
        todo = list(reached)
        while todo:
            slot = todo.pop()
            if stop and slot in stop:
                continue
            position = self.producer.get(slot)
            if position is None:
                continue
            for read in uses(self.tape.ops[position]):
                if read not in reached:
                    reached.add(read)
                    todo.append(read)
        return reached

    @cached_property
    def parametric(self) -> set[int]:
        """Slots made of parameters alone (the parameters, normalised or masked weights...)."""
        made = {s.index for s in self.tape.slots if s.trainable or (s.external and s.parameter)}
        for op in self.tape.ops:
            if op.reads and not op.random and all(r in made for r in op.reads):
                made.update(op.outs)
        return made

    def is_mixing(self, op: Op) -> bool:
        """A parametrised function that mixes elements: linear, convolution, recurrence, attention."""
        if op.name in MIXING:
            return True
        custom = op.name == "apply"
        return custom and any(r in self.parametric for r in op.reads)

    def is_layer(self, op: Op) -> bool:
        """A function that mixes elements by parameters of its own."""
        return self.is_mixing(op) and any(r in self.parametric for r in op.reads)

    @cached_property
    def moved(self) -> set[int]:
        """Slots made from gradients that were taken inside the step (Hamiltonian or Langevin moves, penalties)."""
        made = [o for op in self.tape.ops if op.name == "grad" for o in op.outs]
        return self.descendants(made) if made else set()

    @cached_property
    def drawn(self) -> set[int]:
        """Slots made from random draws."""
        return self.descendants([s for op in self.tape.ops if op.random for s in (*op.outs, *op.writes)])

    @cached_property
    def encoded(self) -> set[int]:
        """Slots behind at least one parametrised function of something that is not a parameter."""
        reached: set[int] = set()
        for op in self.tape.ops:
            mixes = self.is_layer(op)
            if mixes or not reached.isdisjoint(uses(op)):
                reached.update(op.outs)
                reached.update(op.writes)
        return reached


def uses(op: Op) -> tuple[int, ...]:
    """The slots whose values matter to `op`: `zeros_like(t)` and `x.view_as(t)` read the shape of t alone."""
    if op.name in _LIKE_ANOTHER:
        return op.reads[:1]
    return op.reads[1:] if op.name in SHAPED_LIKE else op.reads


def read_by_a_layer(deps: Dependencies, slots: list[int]) -> list[int]:
    return [s for s in slots if any(
        deps.is_mixing(deps.tape.ops[p]) and any(r in deps.parametric for r in deps.tape.ops[p].reads)
        for p in deps.readers.get(s, []))]  # fmt: skip


def unmixed(deps: Dependencies, eps: int) -> list[int]:
    """Slots made from eps without passing a parametrised function, in the order made."""
    order, reached = [eps], {eps}
    for op in deps.tape.ops:
        if op.name in LOSSES or op.name in GATHERING or op.name in COMPARING:
            continue
        if deps.is_layer(op):
            continue
        if not reached.isdisjoint(op.reads):
            new = [s for s in (*op.outs, *op.writes) if s not in reached]
            reached.update(new)
            order.extend(new)
    return order


def reaches_decoder(deps: Dependencies, chain: Iterable[int]) -> bool:
    if deps.formula:
        return True
    reached = set(chain)
    for op in deps.tape.ops:
        if not reached.isdisjoint(op.reads):
            if deps.is_mixing(op) and any(r in deps.parametric or r in deps.encoded for r in op.reads):
                return True
            reached.update(op.outs)
            reached.update(op.writes)
    return False


def origin(deps: Dependencies, slot: int) -> int:
    """`slot` followed back through single-tensor functions, to where it was picked or came from outside."""
    while True:
        position = deps.producer.get(slot)
        if position is None:
            return slot
        op = deps.tape.ops[position]
        if op.name in GATHERING and len(op.reads) > 1:
            big = max(op.reads, key=lambda s: (_has_rows(deps, s), deps.tape.slots[s].numel))
            if deps.tape.slots[big].shape[:1] != deps.tape.slots[slot].shape[:1] or big in deps.parametric:
                return slot
            slot = big
            continue
        source = _source(deps, op)
        if source < 0:
            return slot
        slot = source


def _source(deps: Dependencies, op: Op) -> int:
    """The one tensor that a function works on; -1 where it draws, picks, or works on several."""
    sources = [r for r in uses(op) if r not in deps.parametric and not _constant(deps, r)]
    noisy = [r for r in sources if deps.producer.get(r) is not None and deps.tape.ops[deps.producer[r]].random]
    # noise beside data is left out; where all was drawn, that is the data
    sources = [r for r in dict.fromkeys(sources) if r not in noisy] or noisy
    return -1 if op.random or op.name in PICKING or len(sources) != 1 else sources[0]


def _has_rows(deps: Dependencies, slot: int) -> bool:
    """Was it made of as many rows as it has? The times at which all curves of a batch were measured are one, repeated."""
    first = slot
    while (position := deps.producer.get(first)) is not None:
        op = deps.tape.ops[position]
        source = -1 if op.name in GATHERING else _source(deps, op)
        if source < 0:
            break
        first = source
    return deps.tape.slots[first].shape[:1] == deps.tape.slots[slot].shape[:1]


def _constant(deps: Dependencies, slot: int) -> bool:
    s = deps.tape.slots[slot]
    return s.external and len(s.shape) == 0
