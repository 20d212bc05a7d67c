"""The two terms of the loss, as expressions of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from whyvae.audit.cut import head_values, injected, posterior
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.watch.meetings import further_outputs
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op, Ref

ADDING = {"add", "sub", "rsub", "add_", "sub_", "stack", "cat"}
SCALING = {"mul", "div", "true_divide", "mul_", "div_", "neg"}
REDUCING = {"sum", "mean", "nansum", "nanmean"}
PASSING = {"view", "reshape", "squeeze", "unsqueeze", "flatten", "expand", "to", "float", "double", "clone"}


@dataclass(frozen=True, eq=False)
class Term:
    """An operand of the function in which the terms of the loss meet; `op` is that function, None at a root."""

    slot: int
    op: Op | None


def plain(name: str) -> str:
    """`__rsub__` -> `sub`: the operation, however it was called."""
    bare = name.strip("_")
    for prefix in ("r", "i"):
        if (
            name.startswith("__")
            and bare.startswith(prefix)
            and bare[1:] in {"sub", "add", "mul", "div", "truediv", "pow"}
        ):
            bare = bare[1:]
    return {"truediv": "div", "subtract": "sub", "multiply": "mul", "divide": "div", "negative": "neg"}.get(bare, bare)


class Terms:
    def __init__(self, sites: Sites) -> None:
        self.sites, self.subject = sites, sites.subject
        self.deps, self.tape, self.lineage = self.subject.deps, self.subject.tape, self.subject.lineage

    # ------------------------------------------------------------------ sides
    @cached_property
    def wanted(self) -> set[int]:
        return set(self.deps.ancestors(self.tape.roots))

    @cached_property
    def reconstruction_side(self) -> set[int]:
        """What is made of the output, or of what the decoder says beside it (the logarithm of its own variance)."""
        output = self.lineage.output
        if output < 0:
            return set()
        made = set(self.deps.descendants([output]))
        decoded = [
            o for op in self.tape.ops
            if op.index in self.lineage.decoder_ops and self.deps.is_layer(op)
            for o in op.outs
        ]  # fmt: skip
        beside = self.deps.descendants(decoded) - self.deps.ancestors([output])
        side: set[int] = (made | (beside - self.deps.descendants(self._further_outputs))) & self.wanted
        return side

    @cached_property
    def kl_side(self) -> set[int]:
        """What is made of the posterior without passing an output."""
        lineage, outputs = self.lineage, self._further_outputs
        start = {*lineage.heads, lineage.z, *lineage.chain} - {-1}
        beside = self.deps.ancestors(self.tape.roots, stop={lineage.output, *outputs})
        return set(self.deps.descendants(start) & beside) - self.reconstruction_side - self.further_side

    @cached_property
    def further_side(self) -> set[int]:
        """What is made of the outputs of further likelihoods, and of none of this one."""
        return set(self.deps.descendants(self._further_outputs)) & self.wanted - self.reconstruction_side

    @cached_property
    def _further_outputs(self) -> set[int]:
        lineage = self.lineage
        return further_outputs(self.deps, lineage.z, lineage.data, lineage.output)

    @cached_property
    def kl(self) -> list[Term]:
        """The KL term (or its parts) where it is joined to the rest.

        Raises:
            NoEdit: it was not found.
        """
        found = self.kl_or_none
        if not found:
            raise NoEdit("the place where the KL term joins the loss was not found")
        return found

    @cached_property
    def kl_or_none(self) -> list[Term]:
        """The KL term or its parts; empty where the loss has none."""
        found = list(self._joined(self.kl_side, self.reconstruction_side | self.further_side))
        return found + [Term(root, None) for root in self.tape.roots if root in self.kl_side]

    @cached_property
    def reconstruction(self) -> list[Term]:
        """The reconstruction term where the KL or a further likelihood joins it; the root where nothing does."""
        others = self.kl_side | self.further_side
        joins = [t.op for t in self._joined(others, self.reconstruction_side) if t.op]
        first = min(joins, key=lambda op: op.index, default=None)
        if first is not None:
            return [Term(r, first) for r in first.reads if r in self.reconstruction_side]
        found = [Term(root, None) for root in self.tape.roots if root in self.reconstruction_side]
        if not found:
            raise NoEdit("the reconstruction term was not found")
        return found

    def _joined(self, mine: set[int], others: set[int]) -> Iterator[Term]:
        for op in self.tape.ops:
            if (
                plain(op.name) in ADDING
                and not others.isdisjoint(op.reads)
                and not self.wanted.isdisjoint((*op.outs, *op.writes))
            ):
                yield from (Term(r, op) for r in dict.fromkeys(op.reads) if r in mine)

    # ------------------------------------------------------------------ from a term inwards
    def chain(self, slot: int, side: set[int]) -> list[Op]:
        """The functions that make `slot`, outermost first, while each has one operand on this side."""
        found: list[Op] = []
        while (position := self.deps.producer.get(slot)) is not None:
            op = self.tape.ops[position]
            mine = [r for r in dict.fromkeys(op.reads) if r in side]
            shifted = plain(op.name) == "add" and len(refs(op)) == 1 and 0 in op.args  # `sum([a, b])` begins with 0
            known = shifted or plain(op.name) in SCALING | REDUCING | PASSING
            if len(mine) != 1 or not known or not self.made_of_constants(op, mine[0]):
                break
            found.append(op)
            slot = mine[0]
        return found

    def made_of_constants(self, op: Op, slot: int) -> bool:
        """Apart from `slot`, does `op` read numbers and data alone?"""
        return all(r == slot or r not in self.deps.encoded for r in op.reads)

    def spot(self, term: Term) -> Spot:
        """The expression of a term where it is joined; where that does not show it, the one that made it."""
        spot = self.sites.operand(term.op, term.slot) if term.op is not None else None
        spot = spot or self.sites.made_at(term.slot)
        if spot is None:
            raise NoEdit("the term is computed in code that is not yours")
        return spot

    # ------------------------------------------------------------------ what the tensors are
    @cached_property
    def posterior(self) -> tuple[dict[int, Tensor], Tensor, Tensor]:
        """(head slot -> values that tell mu from log-variance, mu there, sigma there)."""
        replay = self.subject.replay
        heads = injected(head_values(self.lineage, replay), 1.0)
        with torch.no_grad():
            mu, sigma = posterior(self.lineage, replay, heads)
        return dict(zip(self.lineage.heads, heads, strict=True)), mu.detach(), sigma.detach()

    def roles(self, slots: list[int]) -> dict[str, int]:
        """Of `slots`, which holds what: "mu", "logvar", "std", "logstd", "var" -> slot."""
        at, mu, sigma = self.posterior
        s = sigma.abs().clamp_min(1e-30)
        kinds = {"mu": mu, "logvar": 2 * s.log(), "std": s, "logstd": s.log(), "var": s**2}
        found: dict[str, int] = {}
        shape = tuple(mu.shape)
        fitting = [s for s in slots if self.tape.slots[s].shape == shape]
        values = self._values(fitting, at)
        for slot, value in values.items():
            for kind, expected in kinds.items():
                if torch.allclose(value, expected.expand_as(value), rtol=1e-5, atol=1e-7):
                    found.setdefault(kind, slot)
        return found

    def _values(self, slots: list[int], at: dict[int, Tensor]) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            for slot in slots:
                with suppress(ReplayFailed):
                    found[slot] = at[slot] if slot in at else self.subject.replay.run([slot], feed=at)[slot]
        return found


def constant(op: Op) -> float | None:
    """The number `op` multiplies or divides by; None where it is none, or a tensor."""
    numbers = [a for a in op.args if isinstance(a, int | float) and not isinstance(a, bool)]
    return float(numbers[0]) if plain(op.name) in {"mul", "div"} and len(numbers) == 1 else None


def refs(op: Op) -> list[Any]:
    return [a for a in op.args if isinstance(a, Ref)]
