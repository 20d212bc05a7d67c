"""Side networks beside the parts of a trained VAE, trained from where the user's training ended.

A side network ends in zeros, so that a trial starts at the user's own function (Chen, Goodfellow & Shlens 2016), on
the user's own objective; replayed, so that nothing of the user's moves.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from whyvae.audit.cut import noise_like
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.amortisation import Game, connected, learning_rate
from whyvae.probes.data import by_example, target_rows
from whyvae.probes.objective import Objective
from whyvae.watch.subject import TRAINING

HIDDEN = 128  # units of each of the two hidden layers of a side network
RATE = 3e-3  # of side networks at the start, decaying to 0
MOST_INPUTS = 64  # principal directions of the data a side encoder is shown
MOST_OUTPUTS = 256  # and a side decoder can put out
BASIS_ROWS = 768
HELD_PART = 4  # one example in this many is not trained on
LEAST_HELD, MOST_HELD = 24, 256  # examples on which gains are measured
LARGEST_OWN = 4_000_000  # parameters: the user's own are trained along up to here
SHARP = -1.5  # log sigma of further latents at the start: what they say can be heard
TIMED = 3  # steps that are timed
LOGITS = 4.0  # scale of what a side decoder adds to logits and logarithms of rates
MOST_FURTHER = 64  # batches of steps that were not recorded: a trial of 200 steps sees each two or three times

Feed = dict[int, Tensor]


@dataclass(frozen=True, slots=True)
class Parts:
    """What gets a side network; `latents`: so many further units, of a side encoder of their own, which the side decoder
    is given beside z.
    """

    encoder: bool = False
    decoder: bool = False
    latents: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """Per held-out example: SSE or -log p, and KL in nats, each [n]."""

    reconstruction: Tensor
    kl: Tensor


@dataclass(slots=True)
class Batch:
    """A recorded batch: what is fed, and of each example what its side networks see, its target and its role."""

    feed: Feed
    inputs: Tensor  # [batch, directions], spread 1
    target: Tensor  # [batch, D]
    fit: Tensor  # trained on?
    new: Tensor  # in no batch before this one?


class Sides(nn.Module):
    """The side networks of a trial, in float64."""

    def __init__(self, parts: Parts, inputs: int, latents: int, outputs: int) -> None:
        super().__init__()
        self.encoder = _network(inputs, 2 * latents) if parts.encoder else None
        self.further = _network(inputs, 2 * parts.latents, silent=False) if parts.latents else None
        self.decoder = _network(latents + parts.latents, outputs) if parts.decoder else None

    def more(self, inputs: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """(Further latents, their KL in nats), of each example; the noise is that of `draw`, turned round."""
        if self.further is None:
            return draw[:, :0], torch.zeros(len(draw)).double()
        mu, log_sigma = self.further(inputs).chunk(2, 1)
        log_sigma = log_sigma + SHARP
        noise = draw.roll(1, 0).repeat(1, -(-mu.shape[1] // draw.shape[1]))[:, : mu.shape[1]]
        return mu + log_sigma.exp() * noise, _kl(mu, log_sigma)


def _kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    return (0.5 * (mu**2 + (2 * log_sigma).exp() - 1) - log_sigma).sum(1)


def _network(inputs: int, outputs: int, *, silent: bool = True) -> nn.Sequential:
    last = nn.Linear(HIDDEN, outputs)
    if silent:
        nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), last
    ).double()  # fmt: skip


class Trials:
    """Trainings of one subject on its recorded examples, each from the same start with the same draws."""

    def __init__(self, subject: Any, objective: Objective) -> None:
        self.subject, self.lineage, self.replay = subject, subject.lineage, subject.trial_replay
        self.objective = objective
        self._tried: dict[tuple[Parts, int], Score] = {}
        self.game = Game(subject, objective, self.replay)
        self.batches = self._batches()
        # of one training step of the user's own parts
        self.flops = TRAINING * self.replay.flops([self.lineage.output], self.batches[0].feed)
        held = sum(int((b.new & ~b.fit).sum()) for b in self.batches)
        if held < LEAST_HELD:
            raise CannotMeasure(f"needs {LEAST_HELD * HELD_PART} different examples, saw about {held * HELD_PART}")

    def _batches(self) -> list[Batch]:
        slot, target = self.lineage.data, self.lineage.target
        if slot < 0 or not self.subject.tape.slots[slot].dtype.is_floating_point:
            raise CannotMeasure("does not apply: the encoder is shown classes, not numbers")
        rows = target_rows(self.subject)
        self.basis, _ = _directions(rows, MOST_OUTPUTS)
        self.spread = float(rows.std(0).square().mean().sqrt()) if self.objective.gaussian else LOGITS
        raw: list[tuple[Feed, Tensor, Tensor]] = []
        feeds = [*self.subject.train, *self.subject.further[:MOST_FURTHER]]
        for index, feed in enumerate(feeds):  # a step that makes its own data makes others with each seed
            with torch.no_grad():
                got = self.replay.run([slot, target], feed=feed, seed=index)
            pinned = {**feed, slot: got[slot], target: got[target]}
            inputs, wanted = (by_example(got[s].double(), self.subject.batch) for s in (slot, target))
            raw.append((pinned, inputs, wanted))
        seen = torch.cat([inputs for _, inputs, _ in raw])
        mean, (inward, scale) = seen.mean(0), _directions(seen, MOST_INPUTS)
        known: set[int] = set()
        made = []
        for feed, inputs, wanted in raw:
            keys = [zlib.crc32(row.float().numpy().tobytes()) for row in wanted]
            fit, new = [k % HELD_PART != 0 for k in keys], []
            for key in keys:
                new.append(key not in known)
                known.add(key)
            made.append(
                Batch(feed, (inputs - mean) @ inward.T / scale, wanted, torch.tensor(fit), torch.tensor(new))
            )  # fmt: skip
        return made

    # ------------------------------------------------------------------ one pass
    def terms(self, batch: Batch, sides: Sides, draw: Tensor) -> tuple[Tensor, Tensor]:
        """(SSE or -log p, KL) of each example; `draw` is noise [batch, latents]."""
        values = self.replay.run(self.lineage.heads, feed=batch.feed, training=False)
        mu, log_sigma = connected(self.game, batch.feed, values)
        shape, n = mu.shape, batch.target.shape[0]
        mu, log_sigma = mu.reshape(n, -1), log_sigma.reshape(n, -1)
        if sides.encoder is not None:
            shift, stretch = sides.encoder(batch.inputs).chunk(2, 1)
            mu, log_sigma = mu + shift, log_sigma + stretch
        z = mu + log_sigma.exp() * draw
        more, further = sides.more(batch.inputs, draw)
        kl = _kl(mu, log_sigma) + further
        fed = {**batch.feed, self.lineage.z: z.reshape(shape)}
        output = self.replay.run([self.lineage.output], feed=fed, training=False)[self.lineage.output]
        output = by_example(output.reshape(self._target_shape()), self.subject.batch)
        return self._reconstruction(output, torch.cat([z, more], 1), sides, batch.target), kl

    def _target_shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.subject.tape.slots[self.lineage.target].shape
        return shape

    def _reconstruction(self, output: Tensor, z: Tensor, sides: Sides, target: Tensor) -> Tensor:
        added: Tensor | float = 0.0
        if sides.decoder is not None:
            added = sides.decoder(z) @ self.basis * self.spread
        return self.game.cost(output, target, added)

    # ------------------------------------------------------------------ trials
    @cached_property
    def seconds(self) -> float:
        """Of the processor, that a step with both side networks takes: the least of a few, as the first ones prepare much."""
        sides, taken = self._sides(Parts(True, True)), []
        with self._own_parameters() as own:
            for _ in range(TIMED):
                begin = time.process_time()
                self._train(sides, own, 1)
                taken.append(time.process_time() - begin)
        return max(min(taken), 1e-6)

    def before(self) -> Score:
        return self._score(self._sides(Parts()))

    def after(self, parts: Parts, steps: int) -> Score:
        """The score when `parts`, and the user's own parameters, are trained on for `steps` steps; tried once, as it is the same
        each time.
        """
        if (parts, steps) not in self._tried:
            sides = self._sides(parts)
            with self._own_parameters() as own:
                self._train(sides, own, steps)
                self._tried[parts, steps] = self._score(sides)
        return self._tried[parts, steps]

    @contextmanager
    def _own_parameters(self) -> Iterator[list[Tensor]]:
        """Copies of the user's parameters, which the replay runs with until the end; those that are trained, none of a large model."""
        held = self.replay.parameters
        train_own = sum(p.numel() for p in held.values()) <= LARGEST_OWN
        mine = {i: p.detach().clone().requires_grad_(train_own) for i, p in held.items()}
        with self.replay.holding(mine):
            yield list(mine.values()) if train_own else []

    def _sides(self, parts: Parts) -> Sides:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            inputs = self.batches[0].inputs.shape[1]
            return Sides(parts, inputs, self._latents(), self.basis.shape[0])

    def _latents(self) -> int:
        slots = self.subject.tape.slots
        return max(1, int(slots[self.lineage.z].numel) // int(self.subject.batch))

    def _train(self, sides: Sides, own: list[Tensor], steps: int) -> None:
        added = list(sides.parameters())
        groups = [(added, RATE), (own, learning_rate(self.subject))]
        optimizer = torch.optim.Adam(
            [{"params": ps, "lr": lr} for ps, lr in groups if ps] or [torch.zeros(1)], fused=True
        )
        full = [group["lr"] for group in optimizer.param_groups]
        wanted = [*added, *own]
        for step in range(steps):
            batch = self.batches[step % len(self.batches)]
            reconstruction, kl = self.terms(batch, sides, self._draw(step))
            loss = self.game.loss(reconstruction, kl)[batch.fit]
            if not wanted or loss.numel() == 0:
                continue
            for p, g in zip(wanted, torch.autograd.grad(loss.mean(), wanted, allow_unused=True), strict=True):
                p.grad = g
            for group, lr in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.step()

    def _score(self, sides: Sides) -> Score:
        """Over examples not trained on, the mean of a draw and its mirror image."""
        reconstruction, kl = [], []
        with torch.no_grad():
            for index, batch in enumerate(self.batches):
                keep = batch.new & ~batch.fit
                draw = self._draw(10_000 + index)
                (r1, k), (r2, _) = (self.terms(batch, sides, sign * draw) for sign in (1, -1))
                reconstruction.append((0.5 * (r1 + r2))[keep])
                kl.append(k[keep])
                if sum(r.numel() for r in reconstruction) >= MOST_HELD:
                    break
        return Score(torch.cat(reconstruction), torch.cat(kl))

    def _draw(self, seed: int) -> Tensor:
        """The same noise in every trial, [batch, latents]."""
        return noise_like(self.lineage, seed).reshape(self.subject.batch, -1)


@dataclass(frozen=True)
class Beside(Probe):
    """The trials of a subject, which its probes of width and of latents share: one of them is the same for both."""

    subject: Any = field(compare=False, repr=False)
    objective: Objective

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        return cls(subject, objective)

    @cached_property
    def trials(self) -> Trials:
        """
        Raises:
            CannotMeasure: there are none for this subject.
        """
        return Trials(self.subject, self.objective)


def _directions(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The principal directions [k, D] of `rows` that carry anything, and the spread along each."""
    rows = rows[:BASIS_ROWS]
    centred = rows - rows.mean(0)
    if centred.shape[0] < centred.shape[1]:
        values, left = torch.linalg.eigh(centred @ centred.T)
        vectors = (centred.T @ left) / values.clamp_min(1e-300).sqrt()
    else:
        values, vectors = torch.linalg.eigh(centred.T @ centred)
    keep = values.flip(0) > 1e-6 * values[-1].clamp_min(1e-300)
    directions = vectors.flip(1).T[keep][:most]
    return directions, (values.flip(0)[keep][:most] / centred.shape[0]).sqrt()
