"""The spread that the likelihood itself assumes around an output, against the residuals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.added_noise import added_noise
from whyvae.probes.implied import noise_variance_at
from whyvae.probes.objective import Objective, audited_likelihood, standardised
from whyvae.probes.reconstruction import Reconstruction
from whyvae.verdict import Where
from whyvae.watch.lineage import NoVAE
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import tensors_in

NORMALISER = 0.5 * math.log(2 * math.pi)  # of one number; a density has one of these for each
STILL = 1e-3  # of log s: a clamp holds it to the last digit


@dataclass(frozen=True)
class DecoderNoise(Probe):
    """`stated`: the loss is -log of a density with a scale of its own, plus the KL once: s is that scale's square (Gaussian).

    `ratio`: mean squared residual over the variance assumed for it (per number of the output, where each has its own);
    1 at the optimum of the scale (Rybkin et al. 2021). Of another function of the residual r alone s is the mean of r^2
    over that of r times its pull, so that the ratio is the latter mean: 1 at the optimum of the scale, whatever the density. `learned`: the scale depends on parameters, or on the residual.
    """

    stated: bool
    learned: bool
    per_element: bool
    ratio: float
    variance: float  # s; the mean precision's inverse where each number has its own
    at: Where | None
    # learned, and another at the end than half-way, or, where nothing can hold it, than early on: it has not arrived
    moving: bool = False
    held: bool = False  # learned by name: its parameters get no gradient (a clamp that binds, a detach), or no step
    features: int = 0  # numbers in an output
    drawn: float = math.nan  # mean squared residual over the variance of the noise that samples get, if they get any
    drawn_at: Where | None = None

    @property
    def cost(self) -> float:
        """Nats per example that this scale costs beside the one that fits, all else as it is: D / 2 (r - 1 - log r)."""
        return self.features / 2 * (self.ratio - 1 - math.log(self.ratio)) if self.ratio > 0 else math.inf

    @classmethod
    def measure(cls, subject: Any, objective: Objective, reconstruction: Reconstruction) -> Self:
        likelihood = audited_likelihood(subject)
        if objective.family not in {"gaussian", "gaussian per element", "error"} or likelihood is None:
            raise CannotMeasure(f"does not apply: the likelihood has no scale of its own ({objective.likelihood_name})")
        if not objective.weight_known:
            raise CannotMeasure(objective.not_auditable or "the weight of the KL is not known")
        own = objective.family == "gaussian per element"
        s = objective.noise_variance
        ratio = standardised(likelihood, objective.regulariser.weight) if own else reconstruction.mse / s
        learned = objective.learned_scale or own
        stated = objective.counted_once and (learned or _density(subject))
        held = learned and not own and _held(subject)
        moving = learned and (_moved(subject, s, 0.5) or (not own and not held and _moved(subject, s, 0.0)))
        return cls(
            stated, learned, own, ratio, s, objective.likelihood_at, moving, held, reconstruction.features,
            *_drawn(subject, reconstruction),
        )  # fmt: skip


def _drawn(subject: Any, reconstruction: Reconstruction) -> tuple[float, Where | None]:
    """(`drawn`, the line). Of two ratios the larger: of the variances as they are, and of each as a part of what varies from
    example to example, so that neither samples in other units nor samples that are all alike count as noise.
    """
    noise = added_noise(subject)
    kept = reconstruction.kept
    if noise is None or not 0 < kept < 1 or noise.spread <= 0:
        return math.nan, None
    relative = (1 - kept) / kept / (noise.variance / noise.spread)
    return max(reconstruction.mse / noise.variance, relative), noise.at


def _held(subject: Any) -> bool:
    """Are there parameters of the scale alone, and does the loss give none of them a gradient, or nobody a step?"""
    deps, lineage, tape, replay = subject.deps, subject.lineage, subject.tape, subject.replay
    beside = deps.ancestors(tape.roots, stop={lineage.output, lineage.z, *lineage.heads})
    models = deps.ancestors([lineage.output]) | deps.ancestors(lineage.heads)
    slots = [s for s in tape.slots if s.index in beside - models and s.index in replay.parameters]
    stepped = frozenset().union(*(o.parameters for o in subject.optimizers))
    if not slots or not stepped:
        return False
    slots = [s for s in slots if id(s.value) in stepped]
    if not slots:
        return True
    try:
        loss = torch.stack([value.sum() for value in replay.run(tape.roots).values()]).sum()
    except ReplayFailed:
        return False
    grads = torch.autograd.grad(loss, [replay.parameters[s.index] for s in slots], allow_unused=True)
    return all(g is None or not bool(g.any()) for g in grads)


def _moved(subject: Any, s: float, when: float) -> bool:
    """Is s at the end another than at the recorded step nearest to `when`, a share of the training?"""
    kept = [step for step in subject.steps if step.parameters and step.finite and step.index < subject.count]
    if not kept:
        return False
    step = min(kept, key=lambda step: abs(step.index - when * subject.count))
    try:
        then = noise_variance_at(step, subject.lineage)
    except (NoVAE, ReplayFailed):
        return False
    return then > 0 and s > 0 and abs(math.log(s / then)) > STILL


def _density(subject: Any) -> bool:
    """Is a normaliser of a Gaussian or Student density added on the way from the output to the loss?"""
    deps, lineage = subject.deps, subject.lineage
    after = deps.descendants([lineage.output]) & deps.ancestors(subject.tape.roots)
    beside = deps.ancestors(subject.tape.roots, stop={lineage.output, *lineage.heads}) - deps.descendants(
        [lineage.data]
    )
    for op in subject.tape.ops:
        if after.isdisjoint(op.outs):
            if op.name == "lgamma" and not beside.isdisjoint(op.outs):
                return True
            continue
        if op.name == "gaussian_nll_loss":
            return True
        if any(_normaliser(v) for v in (*_numbers(op.args), *_scalars(subject, op))):
            return True
    return False


def _normaliser(value: float) -> bool:
    """Log sqrt(2 pi), log 2 pi, 2 pi itself, or as many of the first as there are numbers."""
    count = abs(value) / NORMALISER
    return (0.5 < count < 1e7 and abs(count - round(count)) < 1e-5 * count) or abs(value - 2 * math.pi) < 1e-5


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)


def _scalars(subject: Any, op: Any) -> Iterator[float]:
    for slot in op.reads:
        value = subject.tape.slots[slot].value
        if value is not None and value.numel() == 1 and value.is_floating_point():
            yield float(value.detach())
    for tensor in tensors_in(op.args):
        if isinstance(tensor, Tensor) and tensor.numel() == 1:
            yield float(tensor)
