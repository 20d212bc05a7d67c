"""A recorded step cut at z: what the loss does to the heads directly is the regulariser and nothing else.

    mu(T), sigma(T)   the posterior, as functions of the head outputs T
    loss(T, z_leaf)   the loss, where the decoder sees z_leaf and everything else sees T

so d loss / d T is the gradient of the KL part, whatever it was called (theory: Kingma & Welling 2014; the
cut loses no digits, where subtracting the decoder's share would).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from whyvae.audit.covariance import factor, spread
from whyvae.watch.draws import FULL
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import Replay


@dataclass(slots=True)
class Cut:
    """Tensors of one step cut at z; shapes as in the user's code. Gradients of `loss` may be taken in
    `heads` (KL part), `z` (reconstruction part as the decoder hands it back) and `output`.
    """

    heads: list[Tensor]
    mu: Tensor
    sigma: Tensor
    eps: Tensor
    sample: Tensor  # z as a function of the heads (what a Monte-Carlo KL is computed from)
    z: Tensor  # the leaf the decoder sees
    loss: Tensor
    output: Tensor | None
    target: Tensor | None
    factor: Tensor | None = None  # L of a full covariance, [rows, units, units]; sigma is then that of each unit alone
    others: list[Tensor] = field(default_factory=list)  # what else was asked for, as functions of the leaf z


def noise_like(lineage: Lineage, seed: int = 0) -> Tensor:
    """Standard normal noise of the recorded shape, from a stream of our own."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    return torch.randn(lineage.tape.slots[lineage.eps].shape, generator=generator, dtype=torch.float64)


def head_values(
    lineage: Lineage,
    replay: Replay,
    feed: Mapping[int, Tensor] | None = None,
    training: bool | None = None,
) -> list[Tensor]:
    with torch.no_grad():
        values = replay.run(lineage.heads, feed=feed, training=training)
    return [values[h].detach().clone() for h in lineage.heads]


def posterior(
    lineage: Lineage, replay: Replay, heads: list[Tensor], feed: Mapping[int, Tensor] | None = None,
    training: bool | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(mu, sigma), connected to `heads`: z is A * eps + B, so B = z(eps = 0) and A = dz/deps, exactly. Of a full covariance
    sigma is that of each unit alone.
    """
    mu, sigma, _ = posterior_and_factor(lineage, replay, heads, feed, training)
    return mu, sigma


def posterior_and_factor(
    lineage: Lineage, replay: Replay, heads: list[Tensor], feed: Mapping[int, Tensor] | None = None,
    training: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """`posterior`, and L of a full covariance, [rows, units, units]; None of any other."""
    if lineage.eps < 0:
        at = {**(feed or {}), **dict(zip(lineage.heads, heads, strict=True))}
        z = replay.run([lineage.z], feed=at, attached=True, training=training)[lineage.z]
        return z, torch.zeros_like(z), None
    at = {**(feed or {}), **dict(zip(lineage.heads, heads, strict=True))}
    zero = torch.zeros(lineage.tape.slots[lineage.eps].shape, dtype=torch.float64)
    leaf = zero.clone().requires_grad_()

    def run(noise: Tensor) -> Tensor:
        fed = {**at, lineage.eps: noise.clone()}
        return replay.run([lineage.z], feed=fed, attached=True, training=training)[lineage.z]

    full = factor(run, zero.shape) if lineage.posterior == FULL else None
    if full is not None:
        return full[0], spread(full[1]).reshape(full[0].shape), full[1]
    z = run(leaf)
    if z.requires_grad and leaf.numel() == z.numel():
        (slope,) = torch.autograd.grad(z.sum(), leaf, create_graph=True, allow_unused=True)
        if slope is not None:
            return run(zero), slope.reshape(z.shape), None
    mu = run(zero)
    return mu, run(zero + 1) - mu, None


def cut(
    lineage: Lineage,
    replay: Replay,
    *,
    heads: list[Tensor] | None = None,
    feed: Mapping[int, Tensor] | None = None,
    seed: int = 0,
    loss: int | None = None,
    also: Sequence[int] = (),
    held: Tensor | None = None,
) -> Cut:
    """The step of `lineage` cut at z, at the given head outputs (default: the encoder's own); `also`: further slots; `held`:
    what all that reads z is shown in its place, whatever the heads are.
    """
    feed = dict(feed or {})
    values = head_values(lineage, replay, feed) if heads is None else heads
    leaves = [v.detach().clone().requires_grad_() for v in values]
    mu, sigma, full = posterior_and_factor(lineage, replay, leaves, feed)
    eps = _tied(noise_like(lineage, seed), mu, sigma) if lineage.eps >= 0 else torch.zeros(())
    at = {**feed, **dict(zip(lineage.heads, leaves, strict=True))}
    if lineage.eps >= 0:
        at[lineage.eps] = eps
    sample = held if held is not None else replay.run([lineage.z], feed={**at, **_cloned(at, lineage.eps)})[lineage.z]
    if held is not None:
        at[lineage.z] = held
    z = sample.detach().clone().requires_grad_()
    meeting = lineage.meeting
    roots = list(lineage.tape.roots) if loss is None else [loss]
    wanted = [*roots, *(s for s in (meeting.output, meeting.target) if s is not None and s >= 0), *also]
    shown = replay.run(lineage.side_inputs, feed={**at, **_cloned(at, lineage.eps)}) if lineage.side_inputs else {}
    inside = {lineage.z: z, **{s: value.detach() for s, value in shown.items()}}
    got = replay.run(
        wanted, feed={**at, **_cloned(at, lineage.eps)}, cut=(lineage.decoder_ops | lineage.side_ops, inside)
    )
    total = torch.stack([got[r].sum() for r in dict.fromkeys(roots)]).sum()
    output = got.get(meeting.output)
    target = got.get(meeting.target) if meeting.target is not None else None
    return Cut(leaves, mu, sigma, eps, sample, z, total, output, target, full, [got[s] for s in also])


def _tied(eps: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """`eps` with one draw for all samples of one posterior, where the step draws several of each.

    All samples then have one weight, and an importance-weighted bound, log mean exp of the weights, is the ELBO (Burda et
    al. 2016); a mean over samples stays what it is.
    """
    if eps.shape != mu.shape or sigma.expand_as(mu).shape != mu.shape or eps.dim() < 2:
        return eps
    both = torch.stack([mu.detach(), sigma.detach().expand_as(mu)])
    for axis in range(eps.dim()):
        first = both.narrow(axis + 1, 0, 1)
        if eps.shape[axis] > 1 and bool((both == first).all()) and bool((both[..., :1] != both).any()):
            eps = eps.narrow(axis, 0, 1).expand_as(eps).contiguous()
    rows = both.movedim(0, -1).reshape(eps.shape[0], -1)
    _, group = torch.unique(rows, dim=0, return_inverse=True)
    if eps.dim() == 2 and 1 < int(group.max()) + 1 < eps.shape[0]:
        order = torch.full((int(group.max()) + 1,), eps.shape[0]).scatter_reduce(
            0, group, torch.arange(eps.shape[0]), "amin"
        )
        eps = eps[order[group]]
    return eps


def _cloned(at: Mapping[int, Tensor], eps: int) -> dict[int, Tensor]:
    """The noise as a fresh tensor: users scale it in place."""
    return {eps: at[eps].clone()} if eps in at else {}


def injected(values: list[Tensor], scale: float, seed: int = 0) -> list[Tensor]:
    """Head outputs replaced by noise of this scale.

    The KL's gradient is the same function wherever it is read; at a collapsed posterior there is none to read, and
    at an exploded one rounding has eaten the small terms.
    """
    generator = torch.Generator().manual_seed(2_000 + seed)
    return [scale * torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in values]


def gradient(of: Tensor, at: list[Tensor]) -> Tensor:
    """D of / d at, flattened into one vector; zero where there is no path."""
    if not of.requires_grad:
        return torch.cat([torch.zeros_like(t).flatten() for t in at])
    grads = torch.autograd.grad(of, at, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(t) if g is None else g).flatten().detach() for t, g in zip(at, grads, strict=True)]
    )
