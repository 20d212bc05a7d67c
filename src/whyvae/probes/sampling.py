"""How the user samples: which latents are decoded outside training that were not encoded, and in which mode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.latents import encodings
from whyvae.probes.looks import amid, centred, chance, looks_drawn, moments, traversal
from whyvae.probes.objective import Objective
from whyvae.verdict import Where
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.onlooker import entries
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.step import Decoded
from whyvae.watch.tape import Op

NUMBERS = 8192  # of a draw that can be repeated
REPEATS = 64
MOST_CALLS = 5  # looked at, of one place
TASTE = 0.11  # nats per unit: truncation, z multiplied by 0.7, costs 0.10 (0.5 (s^2 - 1 - log s^2) at s = 0.7)
CHANCE = 1e-6
SAME = 1e-9  # replays in float64 repeat themselves to 1e-13
MOST_PAIRS = 4_000_000  # of a number and a unit: 2000 of each
POINTS = 3  # a line has two; the third tells it from what is none
VERY = math.log(2) / 4  # of the mean and log sd: half of what a forgotten 1/2 in a KL moves the prior's sd by


@dataclass(frozen=True)
class Draws:
    """New latents that enter the decoder at one place of the source; the moments are relative to the prior's.

    `nats` is KL(N(mean, sd^2) || prior) per latent unit, `nats_encodings` the same relative to the encodings' own
    mean and spread per unit (NaN where they are not known). Where the drawing itself was seen it is repeated, so
    that `numbers` is large; otherwise `chance` is how likely that many numbers from the prior look like this.
    """

    at: Where | None
    drawn_by: str  # name of the torch function; "" where they came from outside torch
    rows: int  # of one call
    distinct: int  # different rows among them; of a call for one sample, among those of the draw repeated
    units: int
    distinct_units: int  # different numbers in a row
    numbers: int
    mean: float
    sd: float
    nats: float
    nats_encodings: float
    chance: float
    judged: bool  # random numbers, one distribution for all units; not a grid, a path, a fitted density
    conditional: bool  # something else enters the decoder with them, and varies
    step: int  # optimiser steps done before the last call

    @property
    def identical(self) -> bool:
        return self.rows >= 4 and self.distinct == 1 and not self.conditional

    @property
    def one_number(self) -> bool:
        """One number for all units of an example."""
        return self.judged and self.units > 1 and self.distinct > 1 and self.distinct_units == 1

    @property
    def off(self) -> bool:
        """Another distribution than the prior, and than that of the encodings."""
        fits = self.nats <= TASTE or self.nats_encodings <= TASTE
        return self.judged and self.distinct > 1 and not fits and self.chance < CHANCE

    @property
    def of_the_prior(self) -> bool:
        """Its very mean and spread, not only one that serves as well."""
        return self.judged and self.sd > 0 and max(abs(self.mean), abs(math.log(self.sd))) < VERY

    @property
    def uniform(self) -> bool:
        return self.drawn_by in {"rand", "rand_like", "uniform_", "uniform"}

    @property
    def wrong(self) -> bool:
        return self.identical or self.one_number or self.off


@dataclass(frozen=True)
class Sampling(Probe):
    """`places`: where the script decodes new latents, by the time of the last call. `prior`: its (mean, sd).

    A prior of the model's own that is no Gaussian has no such two numbers: draws are then compared with the
    encodings, which training brings to it, and `prior` is NaN.
    """

    places: tuple[Draws, ...]
    prior: tuple[float, float]

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        if not subject.decoded:
            raise CannotMeasure("does not apply: no new latents were decoded while this watched")
        if "Gaussian" not in objective.posterior:
            raise CannotMeasure(f"does not apply: posterior {objective.posterior}, the prior is not a Gaussian's")
        if objective.regulariser.flow:
            raise CannotMeasure("does not apply: a flow lies between what is sampled and what is decoded")
        prior, encoded = _prior(objective), _encoded(subject)
        if math.isnan(prior[0]) and not encoded:
            raise CannotMeasure(
                "does not apply: the prior is the model's own, and where its encodings lie is not known"
            )
        units = _Units(subject)
        places = [_draws(units, calls, prior, encoded) for calls in by_place(subject.decoded)]
        return cls(tuple(places), prior)

    @property
    def of_the_prior(self) -> bool:
        """Is the prior in the loss what some new latents are drawn from?"""
        return any(p.of_the_prior for p in self.places)

    @property
    def worst(self) -> Draws | None:
        """The last place, or any where none is right: a sweep of temperatures holds a right one too."""
        random = [p for p in self.places if p.judged or p.identical]
        if not random or (not random[-1].wrong and any(not p.wrong for p in random)):
            return None
        return random[-1] if random[-1].wrong else next(p for p in random if p.wrong)


def sound_calls(subject: Any) -> list[Decoded]:
    """Calls of the decoder on new latents, by a model whose outputs mean something.

    Raises:
        CannotMeasure: there were none, or the run ended with parameters that are no numbers.
    """
    calls: list[Decoded] = subject.decoded
    if not calls:
        raise CannotMeasure("does not apply: no new latents were decoded while this watched")
    if subject.broken:
        raise CannotMeasure("explained by TRN01: the trained parameters are no numbers to measure at")
    return calls


def by_place(decoded: list[Decoded]) -> list[list[Decoded]]:
    """Calls of one line of the source together, in the order of the last ones."""
    found: dict[Any, list[Decoded]] = {}
    for call in decoded:
        source = drawn_by(call)
        place = (source.place if source is not None else None) or call.place
        found[place] = [*found.pop(place, []), call]
    return list(found.values())


def drawn_by(call: Decoded) -> Op | None:
    """The random function that what entered the decoder comes from."""
    deps = Dependencies(call.tape)
    above = deps.ancestors([call.slot])
    drawn = [op for op in call.tape.ops[: call.op] if op.random and not above.isdisjoint((*op.outs, *op.writes))]
    return drawn[-1] if drawn else None


def _prior(objective: Objective) -> tuple[float, float]:
    """(mean, sd) of the prior in the loss; N(0, 1) where it cannot be read, NaN where it is no Gaussian."""
    regulariser = objective.regulariser
    if regulariser.form == "prior density":
        return math.nan, math.nan
    known = regulariser.form in {"exact", "learned prior"} and regulariser.prior_sd > 0
    return (regulariser.prior_mean, regulariser.prior_sd) if known else (0.0, 1.0)


def _encoded(subject: Any) -> list[tuple[Tensor, Tensor]]:
    """(mean, sd) per unit of z over the examples, and of mu alone."""
    try:
        mu, sigma = encodings(subject)
    except (CannotMeasure, ReplayFailed):
        return []
    spread = mu.var(0, correction=0)
    both = [(mu.mean(0), (spread + sigma.square().mean(0)).sqrt()), (mu.mean(0), spread.sqrt())]
    return [(mean, sd.clamp_min(1e-9)) for mean, sd in both]


Columns = tuple[Tensor, Tensor, Tensor]  # of a row's numbers: unit, or -1; scale; offset


class _Units:
    """Which numbers of what enters the decoder are the latent, and which unit each of them is."""

    def __init__(self, subject: Any) -> None:
        lineage, batch = subject.lineage, subject.batch
        generator = torch.Generator().manual_seed(5)
        z = torch.randn(subject.tape.slots[lineage.z].shape, generator=generator, dtype=torch.float64)
        deps = subject.deps
        first = entries(subject.tape)[1]
        behind = deps.descendants([lineage.z])
        inputs = [
            next((r for r in op.reads if r in behind), -1) for op in subject.tape.ops
            if deps.is_mixing(op) and any(id(subject.tape.slots[r].value) in first for r in op.reads)
        ]  # fmt: skip
        self.units = z[:1].numel()
        self.columns: list[Columns] = []  # for each way into the decoder
        for slot in dict.fromkeys(s for s in inputs if s >= 0):
            with torch.no_grad():
                row = subject.replay.run([slot], feed={lineage.z: z}, training=False)[slot]
            if row.shape[:1] == (batch,) and z.shape[:1] == (batch,):
                self.columns += [_columns(part, z) for part in _at_once(row)]

    def split(self, entered: Tensor) -> tuple[Tensor, Tensor]:
        """(latents [rows, units], the rest [rows, ...]) of what entered the decoder.

        Raises:
            CannotMeasure: it is made of the latent by more than rearranging it and scaling it by constants.
        """
        entered = entered if entered.dim() > 1 else entered[None]
        rows = entered.reshape(entered.shape[0], -1).double()
        for unit, scale, offset in self.columns:
            first = [int((unit == u).double().argmax()) for u in range(self.units)]
            if unit.numel() == rows.shape[1] and bool((unit[first] == torch.arange(self.units)).all()):
                return (rows[:, first] - offset[first]) / scale[first], rows[:, unit < 0]
        raise CannotMeasure("what enters the decoder is not the latent itself, but made of it")


def _at_once(row: Tensor) -> list[Tensor]:
    """What of the examples enters a layer at once: all of it; of a sequence [batch, steps, ...], where samples are made step
    by step, one step.
    """
    return [row, row[:, 0]] if row.dim() > 2 else [row]


def _columns(rows: Tensor, z: Tensor) -> Columns:
    """Which unit of z each number of a row is, and by which constants it is scaled and shifted; -1: none."""
    rows, z = rows[:POINTS].flatten(1), z[:POINTS].flatten(1)
    same = (rows[0, :, None] - z[0]).abs() < SAME
    scale, offset = (torch.full((1, 1), v).double().expand(same.shape) for v in (1.0, 0.0))  # no memory of their own
    if len(z) == POINTS and same.numel() <= MOST_PAIRS and not bool(same.any(0).all()):
        scale = (rows[1] - rows[0])[:, None] / (z[1] - z[0])
        offset = rows[0, :, None] - scale * z[0]
        missed = (rows[2, :, None] - scale * z[2] - offset).abs()
        same = (missed < SAME * (1 + rows.abs().amax())) & (scale.abs() > SAME)
    unit = same.double().argmax(1)
    number = torch.arange(len(unit))
    return torch.where(same.any(1), unit, -1), scale[number, unit], offset[number, unit]


def _draws(
    units: _Units, calls: list[Decoded], prior: tuple[float, float], encoded: list[tuple[Tensor, Tensor]]
) -> Draws:
    """Of the calls of one place, the one nearest to the prior."""
    some = calls if len(calls) <= MOST_CALLS else [*calls[:1], *calls[1 - MOST_CALLS :]]
    source = drawn_by(calls[-1])
    if source is None:  # numbers from outside torch: a loop of single rows is one sample
        some = [replace(some[-1], z=torch.cat([c.z for c in some if c.z.shape[1:] == some[-1].z.shape[1:]]))]
    return min((_one(units, call, prior, encoded) for call in some), key=lambda d: min(d.nats, d.nats_encodings))


def _one(units: _Units, call: Decoded, prior: tuple[float, float], encoded: list[tuple[Tensor, Tensor]]) -> Draws:
    source, rows = drawn_by(call), drawn_rows(call)
    if rows is not None:
        call = replace(call, z=Replay(call.tape).run([call.slot], seed=0)[call.slot][rows])
    z, rest = units.split(call.z)
    many = z if source is None else _redrawn(units, call, rows)
    usual = encoded[0] if math.isnan(prior[0]) else (torch.tensor(prior[0]), torch.tensor(prior[1]))
    mean, sd, nats = moments(many, *usual)
    judged = (
        looks_drawn(many)
        if source is None
        else not traversal(z)
        and (centred(many, *usual) or any(amid(many, *e) for e in encoded[1:]) or not _fitted(units, call, rows))
    )
    return Draws(
        _where(source.place if source is not None else call.place), source.name if source is not None else "",
        z.shape[0], _distinct(z if z.shape[0] > 1 else many), z.shape[1], int(max(row.unique().numel() for row in z[:8])),
        many.numel(), mean, sd,
        nats, min((moments(many, *e)[2] for e in encoded), default=math.inf),
        chance(many, *usual) if source is None else 0.0, judged, _distinct(rest) > 1 or _varies_later(call), call.step,
    )  # fmt: skip


def _varies_later(call: Decoded) -> bool:
    """Does something else enter behind the first function: a draw, a label, the word that was picked last? Then equal
    latents give other samples.
    """
    tape, deps = call.tape, Dependencies(call.tape)
    behind = deps.descendants([call.slot])
    drawn = deps.descendants([s for op in tape.ops[call.op :] if op.random for s in (*op.outs, *op.writes)])
    given = {s.index for s in tape.slots if s.external and s.index not in deps.parametric and _varied(s.value)}
    joining = [op for op in tape.ops[call.op :] if not behind.isdisjoint(op.reads)]
    return any(not (drawn | given).isdisjoint(set(op.reads) - {call.slot}) for op in joining)


def _varied(value: Tensor | None) -> bool:
    return (
        value is not None
        and value.dim() > 0
        and value.shape[0] > 1
        and _distinct(value.reshape(value.shape[0], -1)) > 1
    )


def drawn_rows(call: Decoded) -> Tensor | None:
    """Which rows of what entered the decoder are drawn, where encoded ones stand beside them; None where all are alike."""
    if drawn_by(call) is None:
        return None
    replay = Replay(call.tape)
    try:
        with torch.no_grad():
            one, other = (replay.run([call.slot], seed=seed)[call.slot] for seed in (0, 1))
    except ReplayFailed:
        return None
    moving = (one != other).reshape(one.shape[0], -1).any(1) if one.dim() > 1 else torch.ones(1, dtype=torch.bool)
    return moving if bool(moving.any()) and not bool(moving.all()) else None


def _redrawn(units: _Units, call: Decoded, rows: Tensor | None) -> Tensor:
    """What enters the decoder, drawn again and again by the user's own program."""
    replay, parts = Replay(call.tape), [units.split(call.z)[0]]
    try:
        for seed in range(min(REPEATS, NUMBERS // max(1, parts[0].numel()) + 1)):
            with torch.no_grad():
                parts.append(units.split(_those(replay.run([call.slot], seed=seed)[call.slot], rows))[0])
    except ReplayFailed:
        return parts[0]
    return torch.cat(parts)


def _those(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _fitted(units: _Units, call: Decoded, rows: Tensor | None) -> bool:
    """Do the draws depend on numbers from outside (means, covariances, an example's code)?"""
    tape, replay = call.tape, Replay(call.tape)
    above = Dependencies(tape).ancestors([call.slot])
    given = [s for s in tape.slots if s.index in above and s.external and s.value is not None and s.numel > 1]
    before = _latents(units, replay, call, rows, {})
    for slot in given:
        value = replay.external(slot.index).detach()
        varied = value.is_floating_point() and float(value.min()) != float(value.max())
        if varied and not torch.equal(before, _latents(units, replay, call, rows, {slot.index: value + 1})):
            return True
    return False


def _latents(
    units: _Units, replay: Replay, call: Decoded, rows: Tensor | None, feed: dict[int, Tensor]
) -> Tensor:  # fmt: skip
    try:
        with torch.no_grad():
            return units.split(_those(replay.run([call.slot], feed=feed)[call.slot], rows))[0]
    except ReplayFailed:
        return units.split(call.z)[0]


def _distinct(rows: Tensor) -> int:
    return int(rows.unique(dim=0).shape[0]) if rows.numel() else 1


def _where(place: Any) -> Where | None:
    return Where(*place) if place else None
