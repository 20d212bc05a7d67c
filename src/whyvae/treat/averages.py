"""Turns the reductions of a term into: summed over an example's numbers, averaged over the batch."""

from __future__ import annotations

from contextlib import suppress

import libcst as cst

from whyvae.treat.operands import imported
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.treat.terms import REDUCING, Term, Terms, constant, plain
from whyvae.watch.dependencies import LOSSES
from whyvae.watch.tape import Op

NEAR = 1e-6  # two counts are one


class Averages:
    """What averages a term, from where it is joined inwards, and the edits that make it an average over the batch."""

    def __init__(self, sites: Sites, terms: Terms) -> None:
        self.sites, self.terms = sites, terms
        self.slots = sites.subject.tape.slots
        self.batch = max(1, int(sites.subject.batch))
        self.features = size_of_example(sites)

    def ops(self, term: Term, side: set[int]) -> list[Op]:
        """The functions on the way to the term that keep, sum, average or scale; a loss function at the end."""
        chain = self.terms.chain(term.slot, side)
        last = chain[-1].reads if chain else (term.slot,)
        for slot in last:
            position = self.terms.deps.producer.get(slot)
            op = None if position is None else self.sites.subject.tape.ops[position]
            if op is not None and op.name in LOSSES and slot in side:
                return [*chain, op]
        return chain

    def sum_over_features(self, term: Term, side: set[int]) -> None:
        """Collects the edits that make averages over an example's numbers sums."""
        if len(self.slots[self.sites.subject.lineage.z].shape) > 2:
            raise NoEdit("the latent has more dimensions than examples and units")
        ops = self.ops(term, side)
        if any(plain(op.name) == "mul" and constant(op) == self.features for op in ops):
            return  # the average is multiplied by what it was divided by
        for op in ops:
            if plain(op.name) in {"mean", "nanmean"} or op.name in LOSSES:
                self._summed(op)

    def over_batch(self, terms: list[Term], side: set[int], others: list[Term], other: set[int]) -> None:
        """Makes terms that are summed over the batch averages, where the `others` are averages."""
        if not all(self.divided(t, other) == self.batch for t in others):
            return
        for term in terms:
            if not self._has_batch(term.slot) and self.divided(term, side) == 1:
                self.divide(term, side)

    def divided(self, term: Term, side: set[int]) -> int:
        """By which count of examples the term is divided once its averages over features are sums; 0: unknown."""
        divided, ops = 1.0, self.ops(term, side)
        if not self._has_batch(ops[-1].reads[0] if ops else term.slot):
            return 0
        for op in ops:
            if plain(op.name) in {"mean", "nanmean"} or op.name in LOSSES:
                divided *= self.batch if self._over_batch(op) else 1.0
            else:
                divided *= self._count(op) or 1.0
        if self._has_batch(term.slot):
            return self.batch
        return next((n for n in (1, self.batch) if abs(divided - n) <= NEAR * n), 0)

    # ------------------------------------------------------------------ one function
    def _has_batch(self, slot: int) -> bool:
        shape = self.slots[slot].shape
        return bool(shape) and shape[0] == self.batch

    def _averages(self, op: Op) -> bool:
        if op.name not in LOSSES:
            return True
        return op.kwargs.get("reduction", "mean") == "mean" and op.kwargs.get("size_average") is not False

    def _over_batch(self, op: Op) -> bool:
        return self._averages(op) and self._has_batch(op.reads[0]) and not self._has_batch(op.outs[0])

    def _features(self, op: Op) -> int:
        """Over how many numbers of one example does `op` average?"""
        if not self._averages(op) or not op.outs:
            return 1
        ratio = self.slots[op.reads[0]].numel / max(1, self.slots[op.outs[0]].numel)
        return max(1, int(ratio / (self.batch if self._over_batch(op) else 1) + 0.5))

    def _count(self, op: Op) -> float | None:
        """The size that `op` divides by, where it is one (the batch, an example's numbers)."""
        value = constant(op)
        if not value:
            return None
        by = value if plain(op.name) == "div" else 1 / value
        lineage = self.sites.subject.lineage
        counts = {
            self.batch,
            self.features,
            self.features * self.batch,
            lineage.latents,
            lineage.latents * self.batch,
        } - {1}
        return by if any(abs(by - c) <= NEAR * c for c in counts) else None

    def _summed(self, op: Op) -> bool:
        """`mean` -> `sum` where it averages over the numbers of an example."""
        if self._features(op) == 1:
            return False
        spot = self.sites.of(op)
        if spot is None or not isinstance(spot.node, cst.Call):
            raise NoEdit("the average is taken in code that is not yours")
        if op.name in LOSSES:
            self._loss(op, spot)
        else:
            self._mean(op, spot)
        return True

    def _mean(self, op: Op, spot: Spot) -> None:
        assert isinstance(spot.node, cst.Call)  # noqa: S101 - its caller looked
        name = spot.node.func.attr if isinstance(spot.node.func, cst.Attribute) else spot.node.func
        if not isinstance(name, cst.Name) or name.value not in {"mean", "nanmean"}:
            raise NoEdit("the average has an unusual form")
        spot.source.replace(name, name.value.replace("mean", "sum"))
        if self._over_batch(op):
            spot.source.scale(spot.node, "", f" / {self.length(op)}")

    def _loss(self, op: Op, spot: Spot) -> None:
        call = spot.node
        assert isinstance(call, cst.Call)  # noqa: S101 - its caller looked
        if dotted(call.func).split(".")[-1] != op.name or dotted(call.func).split(".")[0] not in imported(spot.source):
            spot.source.scale(call, "", f" * {self.numbers(op)}")  # `criterion(output, x)`: an object
            return
        given = next((a for a in call.args if a.keyword is not None and a.keyword.value == "reduction"), None)
        if given is not None:
            spot.source.replace(given.value, '"sum"')
        else:
            spot.source.cut(call.args[-1], call.args[-1], ', reduction="sum"')
        spot.source.scale(call, "", f" / {self.length(op)}")

    def divide(self, term: Term, side: set[int]) -> None:
        """`/ len(x)` where the term is reduced, or where it is joined: wherever a batch has a name."""
        ops = self.ops(term, side)
        reducing = [op for op in ops if plain(op.name) in REDUCING or op.name in LOSSES]
        places = [(op, self.sites.of(op)) for op in [*reducing, *ops]]
        places += [(term.op, self.terms.spot(term))] if term.op is not None else []
        for op, spot in places:
            if spot is None:
                continue
            with suppress(NoEdit):
                length = self.length(op)
                spot.source.scale(spot.node, "", f" / {length}")
                return
        raise NoEdit("no variable that holds the batch is known where the term is made")

    # ------------------------------------------------------------------ sizes in the user's names
    def length(self, where: Op) -> str:
        """`len(x)` of something that has the batch first."""
        return f"len({self._something(where)})"

    def numbers(self, where: Op) -> str:
        """How many numbers one example has, in the user's names."""
        return f"{self._something(where, data=True)}[0].numel()"

    def _something(self, where: Op, *, data: bool = False) -> str:
        lineage = self.sites.subject.lineage
        names = self.sites.names(where)
        wanted = [lineage.target, lineage.data, lineage.output, *where.reads]
        wanted += [] if data else [*lineage.heads, lineage.z, *names]
        for slot in wanted:
            if slot in names and self._has_batch(slot):
                return names[slot]
        raise NoEdit("no variable that holds the batch is known there")


def size_of_example(sites: Sites) -> int:
    """D: the numbers of one output; 1 where it was not found."""
    subject = sites.subject
    if subject.lineage.output < 0:
        return 1
    return int(subject.tape.slots[subject.lineage.output].numel // max(1, subject.batch))
