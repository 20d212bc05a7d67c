"""How well examples come back, and the noise variance that fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.audit.cut import noise_like
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.data import by_example, feeds_looked_at, target_rows
from whyvae.probes.gaps import left_out
from whyvae.probes.objective import audited_likelihood
from whyvae.watch.dependencies import Dependencies


@dataclass(frozen=True)
class Reconstruction(Probe):
    """Squared errors of outputs at z ~ q(z|x), per example (summed over its D numbers), in evaluation mode.

    `calibrated` is MSE = SSE / D: at the optimum of a Gaussian likelihood with one shared variance, s = MSE
    (Rybkin et al. 2021). `kept` is the share of the data's variance that reconstructions keep; where zeros and ones are drawn
    anew in each step from probabilities (dynamic binarisation, Salakhutdinov & Murray 2008), of the probabilities' variance,
    as what is drawn cannot come back.
    """

    sse: float
    mse: float
    features: int
    kept: float
    output_low: float
    output_high: float
    output_sd_across_examples: float
    rows: int

    @classmethod
    def measure(cls, subject: Any) -> Self:
        outputs, targets = reconstructions(subject)
        error = (outputs - targets).square().sum(1)
        sse = float(error.mean())
        return cls(
            sse, sse / targets.shape[1], targets.shape[1], _kept(outputs, _meant(subject, targets)),
            float(outputs.min()), float(outputs.max()), float(outputs.std(0).mean()), targets.shape[0],
        )  # fmt: skip


def _kept(outputs: Tensor, meant: Tensor) -> float:
    total = float(meant.var(0, correction=0).sum())
    return 1 - float((outputs - meant).square().sum(1).mean()) / total if total > 0 else float("nan")


def _meant(subject: Any, targets: Tensor) -> Tensor:
    """The probabilities that `targets` were drawn from; themselves where they were not."""
    slot = probabilities(subject.deps, subject.lineage.target)
    if slot is None:
        return targets
    with torch.no_grad():
        rows = [subject.replay.run([slot], feed=feed)[slot].double() for feed in feeds_looked_at(subject)]
    found = torch.cat([by_example(p, subject.batch) for p in rows])
    return found if found.shape == targets.shape else targets


_CASTS = {"float", "double", "to", "type", "type_as", "half", "bfloat16"}
_COMPARING = {"lt", "le", "gt", "ge", "__lt__", "__le__", "__gt__", "__ge__", "less", "greater", "bernoulli"}


def probabilities(deps: Dependencies, slot: int | None) -> int | None:
    """The slot of the probabilities that `slot` was drawn from, by `bernoulli` or by comparing them with uniform numbers."""
    while slot is not None and (position := deps.producer.get(slot)) is not None:
        op = deps.tape.ops[position]
        if op.name in _COMPARING:
            uniform = [r for r in op.reads if _random(deps, r)]
            others = [r for r in op.reads if r not in uniform]
            return others[0] if len(others) == 1 and (uniform or op.name == "bernoulli") else None
        slot = op.reads[0] if op.name in _CASTS and op.reads else None
    return None


def _random(deps: Dependencies, slot: int) -> bool:
    position = deps.producer.get(slot)
    return position is not None and deps.tape.ops[position].name in {"rand", "rand_like", "uniform_"}


def reconstructions(
    subject: Any,
    feeds: list[dict[int, Tensor]] | None = None,
    *,
    batch_statistics: bool = False,
    statistics: Mapping[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """(outputs in data space, targets), [n, D], over `feeds`, by default the recorded steps, in evaluation mode.

    Batch norm uses its running statistics; with `batch_statistics` those of each batch where training did; `statistics`
    maps slots of running statistics to other values.
    """
    likelihood = audited_likelihood(subject)
    lineage = subject.lineage
    if subject.broken:
        raise CannotMeasure("explained by TRN01: the trained parameters are no numbers to measure at")
    if likelihood is None or lineage.output < 0 or lineage.target is None:
        raise CannotMeasure("the output was not found")
    target_rows(subject)  # numbers, or CannotMeasure
    outputs, targets = [], []
    for i, feed in enumerate(feeds or feeds_looked_at(subject)):
        fed = {**feed, **(statistics or {})}
        if lineage.eps >= 0:
            fed[lineage.eps] = noise_like(lineage, i)
        with torch.no_grad():
            got = subject.replay.run(
                [lineage.output, lineage.target], feed=fed, training=False, batch_statistics=batch_statistics
            )
        output, target = likelihood.pair(got[lineage.output], got[lineage.target])
        if output.numel() != target.numel():
            if output.numel() % target.numel():
                raise CannotMeasure("output and target have different sizes")
            output = (
                output.reshape(-1, *target.shape).mean(0) if output.dim() > target.dim() else output[: target.shape[0]]
            )
        gaps = left_out(subject, feed)
        if gaps is not None and gaps.numel() == target.numel():
            target = torch.where(gaps.reshape(target.shape), output.reshape(target.shape), target)
        outputs.append(by_example(output.reshape(target.shape), subject.batch))
        targets.append(by_example(target, subject.batch))
    return torch.cat(outputs), torch.cat(targets)
