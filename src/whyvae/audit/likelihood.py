"""The reconstruction part of a loss, read from its gradient at the output: family, scale, and its own target."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whyvae.audit import information
from whyvae.audit.cut import Cut, cut, gradient, head_values
from whyvae.audit.elements import by_feature, laplace_per_element, mask
from whyvae.audit.families import Psi, as_met, candidates, class_indices
from whyvae.audit.links import CLASSES, from_data_space, in_data_space, interpolated, one_hot
from whyvae.audit.solve import least_squares
from whyvae.watch.dependencies import LOSSES, Dependencies, origin
from whyvae.watch.lineage import Lineage
from whyvae.watch.meetings import Meeting
from whyvae.watch.replay import Replay

EXACT = 1e-3  # as for the KL: rounding and guards lie below 1e-6, other families above 1e-2
MOST_MEETINGS = 12
ALIKE = 1e-9  # of their size: what pulls that are one number differ by
FEWEST = 64  # numbers below which a function of the difference cannot be told from none
FUNCTION = 10  # neighbours differ by a tenth of the spread at most; of n unrelated numbers by 1.1 of it, of a function by 4 / n

FAMILY_NAMES = {
    "gaussian": "Gaussian (squared error)",
    "gaussian per element": "Gaussian with a variance of its own for each element",
    "bernoulli": "Bernoulli (BCE)",
    "bernoulli logits": "Bernoulli (BCE on logits)",
    "continuous bernoulli": "continuous Bernoulli",
    "continuous bernoulli logits": "continuous Bernoulli (on logits)",
    "laplace": "Laplace (absolute error)",
    "laplace per element": "Laplace with a scale of its own for each element",
    "huber": "Huber (smooth L1)",
    "log-cosh": "log-cosh",
    "categorical": "categorical (cross-entropy)",
    "categorical probabilities": "categorical (cross-entropy)",
    "multinomial": "multinomial (cross-entropy with counts)",
    "multinomial probabilities": "multinomial (cross-entropy with counts)",
    "poisson": "Poisson (on log rates)",
    "poisson rates": "Poisson",
    "error": "an error of another form (read as a squared error of the same average pull)",
    "mixed": "a sum of squared and absolute error",
    "swapped bernoulli": "BCE with output and target exchanged",
    "batch mean": "squared error against the batch mean",
    "density": "a likelihood of another form (its scale read from the spread and the bend of its gradient)",
    "unknown": "not recognised",
    "none": "none",
}


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What the loss does at the output.

    d loss / d output = `scale` * psi(output, target) with psi of the `family`; `residual` is what that leaves.
    `curvature` > 0 and constant means squared error; `target_slope`, `target_offset`: the target the loss pulls
    towards, regressed on the one it was given.
    """

    family: str
    scale: float
    residual: float
    meeting: Meeting
    output: Tensor
    target: Tensor | None
    sign: int = 1
    precision_spread: float = 0.0  # sd / mean of the per-element precision
    own_target: Tensor | None = None  # where the gradient of a squared error would vanish
    broadcast: tuple[int, ...] | None = None  # shape that output and target are blown up to, if they are
    delta: float = 1.0  # of a Huber error
    gradient: Tensor | None = None  # d loss / d output
    axis: int = -1  # of classes
    trials: float = 1.0  # counts of an example that a softmax shares out, on average
    left_out: int | None = None  # class that marks positions of which the loss takes no notice (padding)
    unmarked: bool = False  # the loss takes no notice of some positions, and the target does not say of which
    link: tuple[Tensor, Tensor] | None = (
        None  # of a density of another form: outputs, and the means of x they stand for
    )

    @property
    def name(self) -> str:
        return FAMILY_NAMES[self.family]

    @property
    def is_gaussian(self) -> bool:
        return self.family in {"gaussian", "gaussian per element"}

    @property
    def is_bernoulli(self) -> bool:
        return self.family in {"bernoulli", "bernoulli logits"}

    @property
    def error(self) -> Tensor | None:
        """Output minus target, in the shape of the output; None where there is no target, or more targets than outputs."""
        wanted = None if self.target is None else as_met(self.output, self.target)
        return None if wanted is None or wanted.shape != self.output.shape else self.output - wanted

    @property
    def in_data_space(self) -> Tensor:
        """The output as a point in data space (probabilities for logits)."""
        return in_data_space(self.family, self.output, self.axis)

    @property
    def of_classes(self) -> bool:
        return self.family in CLASSES

    @property
    def falls(self) -> bool:
        """Does the mean of x fall as the output rises (a rate)?"""
        return self.link is not None and bool(self.link[1][0] > self.link[1][-1])

    def points(self, output: Tensor) -> Tensor:
        """An output of this shape as a point in data space, classes last."""
        if self.link is not None:
            return interpolated(output, *self.link)
        points = in_data_space(self.family, output, self.axis)
        return points.movedim(self.axis, -1) if self.of_classes else points

    def outputs(self, points: Tensor) -> Tensor:
        """Outputs that stand for points in data space, classes where the output has them."""
        if self.link is not None:
            means, order = self.link[1].sort()
            return interpolated(points, means, self.link[0][order])
        outputs = from_data_space(self.family, points)
        return outputs.movedim(-1, self.axis) if self.of_classes else outputs

    def numbers(self, target: Tensor) -> Tensor:
        """A target as a point in data space, as `points`: classes as zeros and ones, counts as their shares; zeros alone
        where the loss takes no notice.
        """
        if not self.of_classes:
            return target.double()
        whole = target.numel() == self.output.numel()
        if self.left_out is not None:
            target = torch.where(target == self.left_out, -1, target)
        hot = target.double().reshape(self.output.shape) if whole else one_hot(target, self.output, self.axis)
        return (hot / hot.sum(self.axis, keepdim=True).clamp_min(1e-300)).movedim(self.axis, -1)

    def pair(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(`points`, `numbers`); where the loss takes no notice of a position (padding), zeros in both."""
        points, numbers = self.points(output), self.numbers(target)
        if self.of_classes and points.shape == numbers.shape:
            points = points * (numbers.sum(-1, keepdim=True) > 0)
        return points, numbers


def audit_likelihood(lineage: Lineage, replay: Replay) -> Likelihood | None:
    """The likelihood at the best-fitting meeting of output and data; None if the output meets nothing.

    A hand-written cross-entropy lets the output meet functions of the data (`y * log(x)`): the data itself is
    tried as the target too.
    """
    best: Likelihood | None = None
    tried = _with_origins(lineage)
    for meeting in tried:
        lineage.meetings = (meeting, *(m for m in lineage.meetings if m != meeting))
        found = _fit(cut(lineage, replay), meeting)
        if found is not None and meeting.features:  # whatever it is there, it is none of the data
            found = replace(found, family="unknown", residual=1.0)
        if found is not None and (best is None or _rank(found) < _rank(best)):
            best = found
        if best is not None and best.residual < EXACT:
            break
    if best is not None and best.family == "unknown" and not best.meeting.features:
        others = (information.read(lineage, replay, meeting, best) for meeting in tried if not meeting.features)
        best = next((found for found in others if found is not None), best)
    if best is not None:
        lineage.meetings = (best.meeting, *(m for m in lineage.meetings if m != best.meeting))
        best = replace(best, broadcast=_broadcast(lineage, replay, best))
    return best


def _with_origins(lineage: Lineage) -> list[Meeting]:
    deps, slots = Dependencies(lineage.tape), lineage.tape.slots
    meetings = [m for m in lineage.meetings[:6] if m.output >= 0]
    further = []
    for meeting in meetings:
        if meeting.target is None:
            continue
        source = origin(deps, meeting.target)
        if source != meeting.target and slots[source].numel == slots[meeting.target].numel:
            further.append(replace(meeting, target=source))
    return [*meetings, *further]


def _rank(found: Likelihood) -> tuple[bool, float]:
    return found.family == "unknown", found.residual


def _fit(step: Cut, meeting: Meeting) -> Likelihood | None:
    if step.output is None or not step.output.requires_grad:
        return None
    (g,) = torch.autograd.grad(step.loss, step.output, create_graph=True, retain_graph=True, allow_unused=True)
    if g is None or not torch.isfinite(g).all() or float(g.detach().norm()) == 0:
        return None
    output, target = step.output.detach(), None if step.target is None else step.target.detach()
    flat = g.detach().flatten()
    live = g[g != 0].detach()
    summed = bool((g == live[0]).all())  # a term of a sum, as lgamma(x + 1) meets one in a Poisson density
    found = Likelihood("unknown", float("nan"), 1.0, meeting, output, target)
    psis = [] if summed else candidates(output, target, g.detach())
    fits = [least_squares(psi.values.flatten()[:, None], flat) for psi in psis]
    if psis and min(fit[1] for fit in fits) > EXACT and not bool((live == live[0]).all()):
        looked_at = mask(g.detach())
        if _asks(target, looked_at):
            return replace(found, gradient=g.detach())
        fits = [least_squares((psi.values * looked_at).flatten()[:, None], flat) for psi in psis]
    if fits:
        best = min(range(len(fits)), key=lambda i: (round(fits[i][1], 9), i))
        scale, residual = float(fits[best][0][0]), fits[best][1]
        found = replace(found, scale=scale, residual=residual)
        if residual < EXACT:
            return replace(_of(psis[best], found), gradient=g.detach())
    return replace(_by_curvature(step, g, found, psis), gradient=g.detach())


def _asks(target: Tensor | None, looked_at: Tensor | float) -> bool:
    """Is the target what a `where` asks (one answer wherever the loss looks at the output, another where it does not)?"""
    if target is None or not isinstance(looked_at, Tensor) or target.numel() != looked_at.numel():
        return False
    here, answers = looked_at.flatten() != 0, target.flatten()
    return bool((answers[here] == answers[here][0]).all()) and bool((answers[~here] != answers[here][0]).all())


def _of(psi: Psi, found: Likelihood) -> Likelihood:
    return replace(
        found, family=psi.family, scale=abs(found.scale), sign=1 if found.scale > 0 else -1, delta=psi.delta,
        axis=psi.axis, trials=psi.trials, left_out=psi.left_out, unmarked=psi.unmarked,
    )  # fmt: skip


def _broadcast(lineage: Lineage, replay: Replay, found: Likelihood) -> tuple[int, ...] | None:
    """The shape both are blown up to, when that is larger than the output: each output meets several targets. Not the
    several numbers of its own example that a density is asked for (the points of a set, in each component of a mixture).
    """
    output, target = found.output, found.target
    if target is None or output.shape == target.shape or class_indices(output, target):
        return None
    try:
        shape = torch.broadcast_shapes(output.shape, target.shape)
    except RuntimeError:
        return None
    if shape.numel() <= output.numel():
        return None
    by_loss = any(op.index == found.meeting.op and op.name in LOSSES for op in lineage.tape.ops)
    return tuple(shape) if by_loss or _examples_met(lineage, replay, found) else None


def _examples_met(lineage: Lineage, replay: Replay, found: Likelihood) -> bool:
    """Does another target of the first example change the pull on the outputs of others, a common factor apart (that of the
    logarithm of a mean)?
    """
    assert found.target is not None  # noqa: S101 - checked by the caller
    assert found.meeting.target is not None  # noqa: S101
    batch, heads = lineage.tape.slots[lineage.z].shape[0], head_values(lineage, replay)
    rows, own = (next((i for i, n in enumerate(t.shape) if n == batch), -1) for t in (found.target, found.output))
    if rows < 0 or own < 0:
        return True
    other = found.target.clone()
    other.select(rows, 0).add_(1)
    pulls: list[Tensor] = []
    feeds: tuple[dict[int, Tensor], ...] = ({}, {found.meeting.target: other})
    for feed in feeds:
        step = cut(lineage, replay, heads=heads, feed=feed)
        if step.output is None:
            return True
        pull = gradient(step.loss, [step.output]).reshape(found.output.shape).movedim(own, 0)[1:]
        pulls.append(pull / pull.norm().clamp_min(1e-300))
    return float((pulls[0] - pulls[1]).norm()) > ALIKE


def _by_curvature(step: Cut, g: Tensor, found: Likelihood, psis: list[Psi]) -> Likelihood:
    """No single family fits: squared error to another target, a precision per element, or a sum of two errors."""
    assert step.output is not None  # noqa: S101 - checked by the caller
    output, target = found.output, found.target
    by = {psi.family: psi.values for psi in psis}
    if {"gaussian", "laplace"} <= set(by):
        mixture = torch.stack([by["gaussian"].flatten(), by["laplace"].flatten()], 1)
        c, residual = least_squares(mixture, g.detach().flatten())
        if residual < EXACT and bool((c > 0).all()):
            return Likelihood("mixed", float(c[0]), residual, found.meeting, output, target)
    found_by_feature = by_feature(g.detach(), by.get("gaussian"))
    if found_by_feature is not None and found_by_feature[2] < EXACT:
        scale, spread, residual = found_by_feature
        return Likelihood(
            "gaussian per element", scale, residual, found.meeting, output, target, precision_spread=spread
        )
    generator = torch.Generator().manual_seed(11)
    v = torch.randint(0, 2, output.shape, generator=generator).double() * 2 - 1
    curvature = None
    if g.requires_grad:
        (hv,) = torch.autograd.grad((g * v).sum(), step.output, retain_graph=True, allow_unused=True)
        curvature = None if hv is None else (hv * v).detach()
    if curvature is not None and float(curvature.abs().max()) > 0 and torch.isfinite(curvature).all():
        mean, spread = float(curvature.mean()), float(curvature.std(correction=0))
        if mean != 0 and spread < 1e-6 * abs(mean):
            own = output - g.detach() / mean
            return Likelihood("gaussian", abs(mean), found.residual, found.meeting, output, target,
                              1 if mean > 0 else -1, own_target=own)  # fmt: skip
        t = None if target is None else as_met(output, target)
        if bool((curvature > 0).all()) and t is not None and t.shape == output.shape:
            own = output - g.detach() / curvature
            off = float((own - t).norm() / t.norm().clamp_min(1e-300))
            if off < EXACT:
                return Likelihood("gaussian per element", mean, off, found.meeting, output, target,
                                  precision_spread=spread / mean)  # fmt: skip
    pulls = laplace_per_element(g.detach(), curvature, by.get("gaussian"))
    if pulls is not None:
        return replace(found, family="laplace per element", scale=float(pulls.mean()), residual=0.0,
                       precision_spread=float(pulls.std() / pulls.mean()))  # fmt: skip
    if float(g.detach().abs().max()) == 0:
        return Likelihood("none", 0.0, 0.0, found.meeting, output, target)
    return _by_residual(g.detach(), found, by.get("gaussian"))


def _by_residual(g: Tensor, found: Likelihood, r: Tensor | None) -> Likelihood:
    """An error that pulls each output towards its target by a function of their difference alone (Student, Charbonnier,
    log-cosh of another scale): `scale` is the precision of the squared error that pulls as much on average.
    """
    if r is None or r.numel() < FEWEST or not bool((g * r >= -1e-9 * (g.abs() * r.abs()).max()).all()):
        return found
    if float((r > 0).double().mean()) in {0.0, 1.0}:
        return found  # residuals of one sign: this is not what the output is compared with
    order = r.flatten().argsort()
    pull = g.flatten()[order]
    live = pull[pull != 0]
    if live.numel() < FEWEST or bool(((live - live[0]).abs() <= ALIKE * live[0].abs()).all()):
        return found  # a term of a sum, where it counts (the zeros of an inflated count)
    apart = (pull[1:] - pull[:-1]).abs()
    if float(apart.mean()) * FUNCTION > float(pull.std()):
        return found  # outputs with nearly the same difference are pulled differently
    scale = float((g * r).sum() / r.square().sum())
    return replace(found, family="error", scale=scale, sign=1)
