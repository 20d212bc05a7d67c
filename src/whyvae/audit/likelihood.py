"""The reconstruction part of a loss, read from its gradient at the output: family, scale, and its own target."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whyvae.audit.cut import Cut, cut
from whyvae.audit.regulariser import least_squares
from whyvae.watch.lineage import Dependencies, Lineage, Meeting, origin
from whyvae.watch.replay import Replay

EXACT = 1e-3  # as for the KL: rounding and guards lie below 1e-6, other families above 1e-2
MOST_MEETINGS = 12
FEWEST = 64  # numbers below which a function of the difference cannot be told from none
FUNCTION = 10  # neighbours differ by a tenth of the spread at most; of n unrelated numbers by 1.1 of it, of a function by 4 / n
NORMALISED = 1e-6  # how far probabilities may be from a sum of 1

FAMILY_NAMES = {
    "gaussian": "Gaussian (squared error)",
    "gaussian per element": "Gaussian with a variance of its own for each element",
    "bernoulli": "Bernoulli (BCE)",
    "bernoulli logits": "Bernoulli (BCE on logits)",
    "continuous bernoulli": "continuous Bernoulli",
    "continuous bernoulli logits": "continuous Bernoulli (on logits)",
    "laplace": "Laplace (absolute error)",
    "huber": "Huber (smooth L1)",
    "log-cosh": "log-cosh",
    "categorical": "categorical (cross-entropy)",
    "poisson": "Poisson (on log rates)",
    "poisson rates": "Poisson",
    "error": "an error of another form (read as a squared error of the same average pull)",
    "mixed": "a sum of squared and absolute error",
    "swapped bernoulli": "BCE with output and target exchanged",
    "batch mean": "squared error against the batch mean",
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
        wanted = None if self.target is None else _spread(self.output, self.target)
        return None if wanted is None or wanted.shape != self.output.shape else self.output - wanted

    @property
    def in_data_space(self) -> Tensor:
        """The output as a point in data space (probabilities for logits)."""
        return in_data_space(self.family, self.output)


def in_data_space(family: str, output: Tensor) -> Tensor:
    """The mean of x that an output stands for."""
    if family == "bernoulli logits":
        return output.sigmoid()
    if family.startswith("continuous bernoulli"):
        return continuous_mean(output if family.endswith("logits") else output.clamp(1e-7, 1 - 1e-7).logit())
    return output.exp() if family == "poisson" else output


def continuous_mean(logits: Tensor) -> Tensor:
    """Mean of the continuous Bernoulli, 1 + 1 / (e^l - 1) - 1 / l (Loaiza-Ganem & Cunningham 2019)."""
    near = logits.abs() < 1e-3  # the series 1/2 + l/12 there
    safe = torch.where(near, torch.ones_like(logits), logits)
    return torch.where(near, 0.5 + logits / 12, 1 + 1 / torch.expm1(safe) - 1 / safe)


def audit_likelihood(lineage: Lineage, replay: Replay) -> Likelihood | None:
    """The likelihood at the best-fitting meeting of output and data; None if the output meets nothing.

    A hand-written cross-entropy lets the output meet functions of the data (`y * log(x)`): the data itself is
    tried as the target too.
    """
    best: Likelihood | None = None
    for meeting in _with_origins(lineage):
        lineage.meetings = (meeting, *(m for m in lineage.meetings if m != meeting))
        found = _fit(cut(lineage, replay), meeting)
        if found is not None and meeting.features:  # whatever it is there, it is none of the data
            found = replace(found, family="unknown", residual=1.0)
        if found is not None and (best is None or _rank(found) < _rank(best)):
            best = found
        if best is not None and best.residual < EXACT:
            break
    if best is not None:
        lineage.meetings = (best.meeting, *(m for m in lineage.meetings if m != best.meeting))
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
    blown = _broadcast(output, target)
    flat = g.detach().flatten()
    classes = _class_indices(output, target)
    candidates = _categorical(output, target, g.detach()) if classes else _continuous(output, target)
    candidates |= _huber(candidates, g.detach())
    fits = {name: least_squares(psi.flatten()[:, None], flat) for name, psi in candidates.items()}
    found = Likelihood("unknown", float("nan"), 1.0, meeting, output, target, broadcast=blown)
    if fits:
        name = min(fits, key=lambda n: (round(fits[n][1], 9), list(fits).index(n)))
        scale, residual = float(fits[name][0][0]), fits[name][1]
        if residual < EXACT:
            return replace(_of(name, scale, residual, meeting, output, target, blown), gradient=g.detach())
        found = Likelihood("unknown", scale, residual, meeting, output, target, broadcast=blown)
    return replace(_by_curvature(step, g, found, candidates), gradient=g.detach())


def _of(
    name: str, scale: float, residual: float, meeting: Meeting, output: Tensor, target: Tensor | None,
    blown: tuple[int, ...] | None,
) -> Likelihood:  # fmt: skip
    family = name.split(maxsplit=1)[0] if name.startswith(("huber", "categorical")) else name
    family = "swapped bernoulli" if name.startswith("swapped") else family
    sign = 1 if scale > 0 else -1
    delta = float(name.split()[1]) if family == "huber" else 1.0
    return Likelihood(family, abs(scale), residual, meeting, output, target, sign, broadcast=blown, delta=delta)


def _broadcast(output: Tensor, target: Tensor | None) -> tuple[int, ...] | None:
    """The shape both are blown up to, when that is larger than the output: each output meets several targets."""
    if target is None or output.shape == target.shape or _class_indices(output, target):
        return None
    try:
        shape = torch.broadcast_shapes(output.shape, target.shape)
    except RuntimeError:
        return None
    return tuple(shape) if shape.numel() > output.numel() else None


def _class_indices(output: Tensor, target: Tensor | None) -> bool:
    return target is not None and not target.dtype.is_floating_point and target.numel() < output.numel()


def _categorical(output: Tensor, target: Tensor | None, g: Tensor) -> dict[str, Tensor]:
    """Psi of each family; 0 at positions without any gradient: padding that the loss leaves out (`ignore_index`)."""
    assert target is not None  # noqa: S101 - checked by the caller
    axis = 1 if output.dim() == target.dim() + 1 else -1
    classes = output.shape[axis]
    if output.numel() != target.numel() * classes or int(target.max()) >= classes:
        return {}
    hot = torch.nn.functional.one_hot(target.long().clamp_min(0), classes).to(output)
    hot = hot.movedim(-1, axis) if axis == 1 and hot.dim() == output.dim() else hot.reshape(output.shape)
    found = {"categorical": output.softmax(axis) - hot}
    if bool((output.logsumexp(axis).abs() < NORMALISED).all()):
        found["categorical of log-probabilities"] = -hot
    if bool(((output.sum(axis) - 1).abs() < NORMALISED).all()) and bool((output >= 0).all()):
        found["categorical of probabilities"] = -hot / output.clamp_min(1e-12)
    counted = (g != 0).any(axis, keepdim=True)
    return {name: psi * counted for name, psi in found.items()}


def _continuous(output: Tensor, target: Tensor | None) -> dict[str, Tensor]:
    """Psi of each family where output and target fit, in the order of preference on a tie."""
    if target is None:
        return {}
    t = _spread(output, target)
    if t is None:
        return {}
    if t.shape != output.shape:
        return {"batch mean": output - _averaged(t, output)}
    y, r = output, output - t
    inside = bool((y >= 0).all() and (y <= 1).all())
    found = {"gaussian": r}
    if inside:
        found["bernoulli"] = r / (y * (1 - y)).clamp_min(1e-12)
        eps_guard = 1e-8
        found["continuous bernoulli"] = (in_data_space("continuous bernoulli", y) - t) / (y * (1 - y)).clamp_min(1e-12)
        found["swapped bernoulli"] = ((1 - t).clamp_min(0) + eps_guard).log() - (t.clamp_min(0) + eps_guard).log()
        for guard in (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3):  # targets kept from 0 and 1
            inner = t.clamp(guard, 1 - guard)
            found[f"swapped bernoulli {guard}"] = (1 - inner).log() - inner.log()
    found["bernoulli logits"] = y.sigmoid() - t
    found["continuous bernoulli logits"] = continuous_mean(y) - t
    found["laplace"] = r.sign()
    for delta in (1.0, 0.5, 0.1, 0.05, 0.01):
        found[f"huber {delta}"] = (r / delta).clamp(-1, 1)
    found["log-cosh"] = r.tanh()
    found["poisson"] = y.exp() - t
    if bool((y > 0).all()) and bool((t >= 0).all()):
        found["poisson rates"] = 1 - t / y
    return found


def _spread(output: Tensor, target: Tensor) -> Tensor | None:
    """The target in the shape it meets the output in: several outputs may share one (samples of a posterior)."""
    if target.numel() == output.numel():
        return target.reshape(output.shape).double()
    try:
        return target.double().expand(torch.broadcast_shapes(target.shape, output.shape))
    except RuntimeError:
        return None


def _huber(candidates: dict[str, Tensor], g: Tensor) -> dict[str, Tensor]:
    """The Huber error whose delta the gradient itself shows: it grows with the error and stays at its largest."""
    if "laplace" not in candidates:
        return {}
    r, size = candidates["gaussian"], g.abs()
    growing = (size < 0.9 * size.max()) & (r.abs() > 0)
    if not growing.any():
        return {}
    delta = float(size.max() / (size[growing] / r.abs()[growing]).median())
    return {f"huber {delta}": (r / delta).clamp(-1, 1)} if delta > 0 else {}


def _averaged(target: Tensor, output: Tensor) -> Tensor:
    """Mean of the blown-up target over the axes along which the output was repeated."""
    axes = [
        i for i in range(target.dim())
        if i - (target.dim() - output.dim()) < 0 or output.shape[i - (target.dim() - output.dim())] == 1
    ]  # fmt: skip
    return (
        target.mean(axes, keepdim=True)
        .reshape([1 if i in axes else n for i, n in enumerate(target.shape)])
        .expand(output.shape)
        if target.dim() == output.dim()
        else target.mean(0)
    )


def _by_curvature(step: Cut, g: Tensor, found: Likelihood, candidates: dict[str, Tensor]) -> Likelihood:
    """No single family fits: squared error to another target, a precision per element, or a sum of two errors."""
    assert step.output is not None  # noqa: S101 - checked by the caller
    output, target = found.output, found.target
    if {"gaussian", "laplace"} <= set(candidates):
        mixture = torch.stack([candidates["gaussian"].flatten(), candidates["laplace"].flatten()], 1)
        c, residual = least_squares(mixture, g.detach().flatten())
        if residual < EXACT and bool((c > 0).all()):
            return Likelihood("mixed", float(c[0]), residual, found.meeting, output, target)
    by_feature = _by_feature(g.detach(), candidates.get("gaussian"))
    if by_feature is not None:
        scale, spread, residual = by_feature
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
                              1 if mean > 0 else -1, own_target=own, broadcast=found.broadcast)  # fmt: skip
        t = None if target is None else _spread(output, target)
        if bool((curvature > 0).all()) and t is not None and t.shape == output.shape:
            own = output - g.detach() / curvature
            off = float((own - t).norm() / t.norm().clamp_min(1e-300))
            if off < EXACT:
                return Likelihood("gaussian per element", mean, off, found.meeting, output, target,
                                  precision_spread=spread / mean)  # fmt: skip
    if float(g.detach().abs().max()) == 0:
        return Likelihood("none", 0.0, 0.0, found.meeting, output, target)
    return _by_residual(g.detach(), found, candidates.get("gaussian"))


def _by_feature(g: Tensor, r: Tensor | None) -> tuple[float, float, float] | None:
    """(mean precision, its sd / mean, residual) of squared errors with one precision for each feature, the same for all
    examples; None if it is not that.
    """
    if r is None or r.dim() < 2 or r.numel() < 4 * r.shape[-1]:
        return None
    pull, away = g.reshape(-1, r.shape[-1]), r.reshape(-1, r.shape[-1])
    precision = (pull * away).sum(0) / away.square().sum(0).clamp_min(1e-300)
    residual = float((pull - precision * away).norm() / pull.norm().clamp_min(1e-300))
    if residual > EXACT or not bool((precision > 0).all()):
        return None
    mean = float(precision.mean())
    return mean, float(precision.std(correction=0)) / mean, residual


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
    apart = (pull[1:] - pull[:-1]).abs()
    if float(apart.mean()) * FUNCTION > float(pull.std()):
        return found  # outputs with nearly the same difference are pulled differently
    scale = float((g * r).sum() / r.square().sum())
    return replace(found, family="error", scale=scale, sign=1)
