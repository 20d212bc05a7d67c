"""What stands between the last encoder layer and mu, log sigma: activations and clamps that fence them in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch

from whyvae.audit.cut import head_values, posterior
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.latents import encodings
from whyvae.verdict import Where


@dataclass(frozen=True)
class Heads(Probe):
    """The range that mu and log sigma can reach when the head outputs run far to both sides, and what they do reach."""

    mu_low: float
    mu_high: float
    log_sigma_low: float
    log_sigma_high: float
    mu_at_wall: float  # share of encodings within 1 % of a wall, of mu's range or of what they span
    mu_op: str
    mu_at: Where | None
    log_sigma_at_wall: float
    log_sigma_op: str
    log_sigma_at: Where | None

    @classmethod
    def measure(cls, subject: Any) -> Self:
        lineage, replay = subject.lineage, subject.replay
        if not lineage.heads or lineage.eps < 0:
            raise CannotMeasure("does not apply: no layer makes mu and sigma here")
        values = head_values(lineage, replay, training=False)
        mus, logs = [], []
        generator = torch.Generator().manual_seed(13)
        for push in (
            1.0,
            5.0,
            50.0,
            1e3,
        ):  # both signs, differing: norm layers in between see no constant
            heads = [push * torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in values]
            mu, sigma = posterior(lineage, replay, [h.requires_grad_() for h in heads], training=False)
            mus.append(mu.detach())
            logs.append(sigma.detach().abs().clamp_min(1e-300).log())
        reach_mu = (min(float(m.min()) for m in mus), max(float(m.max()) for m in mus))
        reach_log = (min(float(v.min()) for v in logs), max(float(v.max()) for v in logs))
        mu, sigma = encodings(subject)
        ops = _between(subject)
        mu_op, mu_at = ops.get("mu", ("", None))
        log_op, log_at = ops.get("sigma", ("", None))
        return cls(
            *reach_mu, *reach_log, _at_wall(mu, *reach_mu), mu_op, mu_at,
            _at_wall(sigma.abs().clamp_min(1e-300).log(), *reach_log), log_op, log_at,
        )  # fmt: skip


def _at_wall(values: torch.Tensor, low: float, high: float) -> float:
    spans = max(1.0, float(values.max() - values.min()))  # a relu's range has no other end
    spread = 0.01 * max(1e-9, min(high - low, spans))
    near = torch.zeros_like(values, dtype=torch.bool)
    if math.isfinite(low) and low > -100:
        near |= values <= low + spread
    if math.isfinite(high) and high < 100:
        near |= values >= high - spread
    return float(near.double().mean())


FENCES = {"relu", "relu_", "tanh", "sigmoid", "softplus", "hardtanh", "clamp", "clamp_", "clip", "leaky_relu", "elu", "silu",
          "gelu", "clamp_min", "clamp_max", "abs", "relu6", "softsign", "normalize", "tanh_", "sigmoid_"}  # fmt: skip


def _between(subject: Any) -> dict[str, tuple[str, Where | None]]:
    """The fencing functions on the way from the heads to mu (no noise in it) and to what multiplies the noise."""
    deps, lineage = subject.deps, subject.lineage
    below = deps.descendants(lineage.heads)
    made = deps.descendants([lineage.eps]) & deps.ancestors([lineage.z])  # of several draws side by side, each
    noisy = {*lineage.chain, *made} - {lineage.eps}
    found: dict[str, tuple[str, Where | None]] = {}
    for op in subject.tape.ops:
        if op.name not in FENCES or not any(r in below for r in op.reads):
            continue
        target = _role(deps, op.outs or op.writes, noisy)
        if target:
            found[target] = (op.name, Where(*op.place) if op.place else None)
    return found


def _role(deps: Any, slots: tuple[int, ...], noisy: set[int]) -> str:
    """Says "mu" if what follows is added to the noise, "sigma" if it multiplies it."""
    reached = set(slots)
    for op in deps.tape.ops:
        if reached.isdisjoint(op.reads) or op.random:  # `randn_like(mu)` asks for a shape
            continue
        if any(o in noisy for o in (*op.outs, *op.writes)):
            return "sigma" if op.name in {"mul", "__mul__", "__rmul__", "mul_"} else "mu"
        if not deps.is_mixing(op):
            reached.update(op.outs)
            reached.update(op.writes)
    return ""
