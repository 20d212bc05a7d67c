"""What the loss really is: the audit's answer as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from whyvae.audit.batch import at_batch_size
from whyvae.audit.likelihood import Likelihood, audit_likelihood
from whyvae.audit.links import CLASSES
from whyvae.audit.reductions import Reductions, reductions
from whyvae.audit.regulariser import Regulariser, audit_regulariser
from whyvae.probe import CannotMeasure, Probe
from whyvae.verdict import Where
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.lineage import Lineage, NoVAE, find
from whyvae.watch.replay import Replay, ReplayFailed

APART = 0.2  # log of the ratio of two batch sizes: nearer ones magnify what else moves s
UNIT = 1e-3  # how exactly a weight of 1 is one
STEADY = 1e-4  # of log s between two steps of one size; rounding moves it by 1e-6


@dataclass(frozen=True)
class Objective(Probe):
    """The loss of one training step. `noise_variance` is s = w / c: for squared errors the observation variance
    that makes the loss an ELBO, for BCE the effective beta. Weights are per nat summed over the batch.
    """

    posterior: str
    regulariser: Regulariser
    family: str
    likelihood_name: str
    scale: float
    sign: int
    likelihood_residual: float
    noise_variance: float
    noise_variance_first: float  # at the first recorded step
    noise_variance_half_batch: float  # with half the batch; NaN where it could not be tried
    features: int  # D, numbers in one example's target
    latents: int
    batch: int
    reductions: Reductions
    learned_scale: bool  # the likelihood's scale depends on a parameter or on the residual
    not_auditable: str  # why the regulariser is no Gaussian KL to be judged, "" if it is one
    loss_function: str  # name of the function in which output and target meet
    regulariser_at: Where | None
    likelihood_at: Where | None
    pull: float  # cosine of the loss's pull on the output with the way to the target; NaN where it has none
    prior_is_learned: bool

    @classmethod
    def measure(cls, subject: Any) -> Self:
        lineage = subject.lineage
        likelihood = audited_likelihood(subject)
        regulariser = audited_regulariser(subject)
        why_not = _not_auditable(subject, regulariser, likelihood)
        scale = likelihood.scale if likelihood is not None else math.nan
        s = noise_variance_of(regulariser, likelihood)
        features = _features(subject, likelihood)
        batch = subject.tape.slots[lineage.z].shape[0] if subject.tape.slots[lineage.z].shape else 1
        return cls(
            lineage.posterior, regulariser,
            likelihood.family if likelihood else "none", likelihood.name if likelihood else "not found",
            scale, likelihood.sign if likelihood else 1, likelihood.residual if likelihood else 1.0,
            s, _first(subject, s), _half(subject, s, likelihood), features, lineage.latents, batch,
            reductions(subject.deps, lineage), _learned(subject, likelihood), why_not, _meeting_name(subject),
            regulariser_place(subject), likelihood_place(subject), _pull(likelihood), _prior_is_learned(subject),
        )  # fmt: skip

    @property
    def auditable(self) -> bool:
        return self.not_auditable == "" and self.posterior == "diagonal Gaussian"

    @property
    def sampling_mistake(self) -> str:
        """Where the KL is a Gaussian KL, but of another spread than the one that is sampled."""
        mistake, (c1, c2, c3, _) = self.regulariser.mistake, self.regulariser.coefficients
        if self.not_auditable or self.regulariser.form != "wrong":
            return ""
        if mistake.startswith("log sigma is passed"):
            return "the noise is multiplied by the variance, not by the standard deviation"
        same = c1 > 0 and abs(c1 - c3) < 1e-3 * c1
        if same and c2 > 0 and self.regulariser.residual < 1e-3:
            return f"the noise is {(c3 / c2) ** 0.5:.3g} times the standard deviation in the KL"
        return ""

    @property
    def mostly_reductions(self) -> bool:
        """Do the reductions account for more of the weight than the user's explicit factor does?"""
        ratio = self.reductions.ratio
        unit = 2.0 if self.family == "gaussian" else 1.0
        explicit = self.noise_variance * unit / ratio
        return abs(math.log(ratio)) > abs(math.log(max(explicit, 1e-300)))

    @property
    def counted_once(self) -> bool:
        """Does the KL count once for each nat: summed over units, and summed or averaged over examples as a density is?

        The density's averaging is known up to the 1/2 of a square, which looks like an average over two.
        """
        weight = self.regulariser.weight
        alike = abs(math.log(self.reductions.reconstruction * weight)) < math.log(2) + UNIT if weight > 0 else False
        return alike and any(abs(weight * n - 1) < UNIT for n in (1, self.batch))

    @property
    def batch_power(self) -> float:
        """p, where s grows with the batch size as its power p; 0 where that could not be tried."""
        ratio = self.noise_variance_half_batch / self.noise_variance
        return -math.log2(ratio) if ratio > 0 else 0.0  # NaN is not above 0

    @property
    def gaussian(self) -> bool:
        return self.family in {
            "gaussian",
            "gaussian per element",
            "mixed",
            "huber",
            "laplace",
            "laplace per element",
            "log-cosh",
            "error",
        }

    @property
    def bernoulli(self) -> bool:
        return self.family in {"bernoulli", "bernoulli logits"}

    @property
    def of_classes(self) -> bool:
        return self.family in CLASSES

    @property
    def own_variance(self) -> bool:
        """Does the likelihood set its variance by the mean (and leave s to be compared with 1)?"""
        return (
            self.bernoulli or self.of_classes or self.family.startswith(("continuous bernoulli", "poisson", "density"))
        )

    @property
    def weight_known(self) -> bool:
        return (
            self.auditable and self.regulariser.weighed and self.sign > 0
            and math.isfinite(self.noise_variance) and self.noise_variance > 0 and self.family != "unknown"
        )  # fmt: skip


def standardised(likelihood: Likelihood, weight: float) -> float:
    """Mean of residual^2 / variance: the gradient at the output is residual / variance, times the `weight` of a nat."""
    residual = likelihood.error
    if likelihood.gradient is None or residual is None:
        return math.nan
    return float((residual * likelihood.gradient).mean()) / weight


def _pull(likelihood: Likelihood | None) -> float:
    """Cosine between -d loss / d output and target - output (in data space for logits)."""
    if likelihood is None or likelihood.target is None or likelihood.gradient is None:
        return math.nan
    target, gradient = likelihood.target, likelihood.gradient
    if target.numel() != likelihood.output.numel() or not target.dtype.is_floating_point:
        return math.nan
    points = likelihood.points(likelihood.output)
    way = likelihood.numbers(target).reshape(points.shape) - points
    gradient = gradient.movedim(likelihood.axis, -1) if likelihood.of_classes else gradient
    gradient = -gradient if likelihood.falls else gradient
    size = float(way.norm() * gradient.norm())
    return -float((way * gradient).sum()) / size if size > 0 else math.nan


def _prior_is_learned(subject: Any) -> bool:
    """Do parameters that are neither the encoder's nor the decoder's enter the regulariser?"""
    deps, lineage = subject.deps, subject.lineage
    beside = deps.ancestors(subject.tape.roots, stop={lineage.output, lineage.z, *lineage.heads})
    known = deps.ancestors([lineage.output]) | deps.ancestors(lineage.heads)
    return any(subject.tape.slots[s].trainable and s not in known for s in beside)


def _meeting_name(subject: Any) -> str:
    return next((op.name for op in subject.tape.ops if op.index == subject.lineage.meeting.op), "")


def audited_likelihood(subject: Any) -> Likelihood | None:
    """The likelihood with its tensors, computed once per subject."""
    found: Likelihood | None = _once(subject, audit_likelihood)
    return found


def audited_regulariser(subject: Any) -> Regulariser:
    """The KL part, read once per subject."""
    found: Regulariser = _once(subject, audit_regulariser)
    return found


def _once(subject: Any, audit: Callable[[Lineage, Replay], Any]) -> Any:
    kept: dict[str, Any] = subject.__dict__.setdefault("_audited", {})
    if audit.__name__ not in kept:
        try:
            kept[audit.__name__] = audit(subject.lineage, subject.replay)
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed
    return kept[audit.__name__]


def noise_variance_of(regulariser: Regulariser, likelihood: Likelihood | None) -> float:
    if likelihood is None or not likelihood.scale:
        return math.nan
    s = regulariser.weight / likelihood.scale
    if likelihood.family.startswith("laplace"):
        return 2 * s**2  # variance of a Laplace density of scale s
    return s * likelihood.delta if likelihood.family == "huber" else s


def _features(subject: Any, likelihood: Likelihood | None) -> int:
    slots = subject.tape.slots
    rows = (
        slots[subject.lineage.data].shape[0] if subject.lineage.data >= 0 and slots[subject.lineage.data].shape else 1
    )
    if likelihood is None or likelihood.target is None:
        return 0
    return int(likelihood.target.numel() // max(1, rows))


def _first(subject: Any, last: float) -> float:
    """S at the earliest recorded step that can be audited (an annealed weight moves between the two)."""
    for step in subject.steps:
        if step is subject.main:
            return last
        try:
            return noise_variance_at(step)
        except (NoVAE, ReplayFailed):
            continue
    return last


def noise_variance_at(step: Any) -> float:
    """S at a recorded step, at the parameters of that time where they were kept.

    Raises:
        NoVAE, ReplayFailed: the step cannot be audited.
    """
    lineage = find(step.tape)
    replay = Replay(step.tape, step.parameters) if step.parameters else Replay(step.tape)
    return noise_variance_of(audit_regulariser(lineage, replay), audit_likelihood(lineage, replay))


def _half(subject: Any, s: float, likelihood: Likelihood | None) -> float:
    """S of the same step with half of its batch: from a recorded step of another size where there is one.

    NaN where another term is found there, as in a table whose columns have a term each: s of one says nothing of another.
    """
    seen = _at_another_size(subject)
    if not math.isnan(seen):
        return float(s * 0.5**seen)
    try:
        lineage, replay = at_batch_size(subject, 0.5)
        there = audit_likelihood(lineage, replay)
        same = likelihood is not None and there is not None and there.family == likelihood.family
        return _audited(lineage, replay) if same else math.nan
    except (NoVAE, ReplayFailed, ValueError):
        return math.nan


def _at_another_size(subject: Any) -> float:
    """Exponent of the batch size in s, between a recorded step of another size (a last, smaller batch) and the one
    nearest to it in time; NaN where every step has one size.
    """
    mine = subject.main.tape.shape_key()
    usual = [step for step in subject.steps if step.tape.shape_key() == mine and step.finite]
    for step in reversed(subject.steps):
        if not step.finite or len(step.tape.ops) != len(subject.tape.ops) or step.tape.shape_key() == mine:
            continue
        around = sorted(usual, key=lambda other: abs(other.index - step.index))[:2]
        try:
            size, there = _size_and_s(step)
            pairs = [_size_and_s(other) for other in around]
        except (NoVAE, ReplayFailed):
            continue
        if len(pairs) < 2 or not there > 0 or not all(here > 0 for _, here in pairs):
            continue
        (other, here), (_, beside) = pairs
        moves = abs(math.log(here / beside)) > STEADY  # the weight is annealed, or the scale is learned
        if not moves and abs(math.log(size / other)) > APART:
            return math.log(there / here) / math.log(size / other)
    return math.nan


def _size_and_s(step: Any) -> tuple[int, float]:
    """(examples, s) of a recorded step at the parameters it had."""
    lineage = find(step.tape)
    replay = Replay(step.tape, step.parameters) if step.parameters else Replay(step.tape)
    return step.tape.slots[lineage.z].shape[0], _audited(lineage, replay)


def _audited(lineage: Lineage, replay: Replay) -> float:
    likelihood, regulariser = audit_likelihood(lineage, replay), audit_regulariser(lineage, replay)
    if likelihood is None or not regulariser.weighed:
        return math.nan
    return noise_variance_of(regulariser, likelihood)


def _learned(subject: Any, likelihood: Likelihood | None) -> bool:
    """Does the scale of the likelihood move with a parameter or the residual itself (log-MSE, learned sigma)?"""
    if likelihood is None:
        return False
    deps, lineage = subject.deps, subject.lineage
    after = deps.descendants([lineage.output]) & deps.ancestors(subject.tape.roots)
    before = deps.ancestors([lineage.output])
    slots = subject.tape.slots
    for op in subject.tape.ops:
        if after.isdisjoint(op.outs):
            continue
        # of a mean or a sum of residuals: of each by itself it is what bends the error (Student, Cauchy)
        reduced = any(r in after and slots[r].numel < slots[lineage.output].numel for r in op.reads)
        if op.name in {"log", "log_", "log1p"} and reduced:
            return True
        for read in op.reads:
            trainable = {a for a in deps.ancestors([read]) if slots[a].trainable}
            if read not in after and read not in before and trainable and trainable.isdisjoint(_kl_parameters(subject)):
                return True
    return False


def _kl_parameters(subject: Any) -> set[int]:
    return {a for a in subject.deps.ancestors([subject.lineage.z]) if subject.tape.slots[a].trainable}


def _conditional_prior(subject: Any) -> bool:
    """Does the KL meet what parameters make that stand neither before z nor before the output?"""
    deps, lineage, slots = subject.deps, subject.lineage, subject.tape.slots
    behind = deps.descendants([lineage.output]) | {lineage.output}
    side = (deps.descendants(lineage.heads) | set(lineage.heads)) - behind
    known = deps.ancestors([lineage.z, lineage.output])
    for op in subject.tape.ops:
        others = [r for r in op.reads if r not in side and r not in behind and not slots[r].trainable]
        if (
            not side.isdisjoint(op.reads)
            and op.index not in lineage.decoder_ops
            and any(slots[a].trainable and a not in known for r in others for a in deps.ancestors([r]))
        ):
            return True
    return False


_PLAIN = {
    "add", "sub", "rsub", "mul", "div", "neg", "pow", "square", "sum", "mean", "exp", "log", "sqrt", "__add__", "__sub__",
    "__mul__", "__truediv__", "__radd__", "__rsub__", "__rmul__", "__pow__", "__neg__", "add_", "mul_", "sub_", "div_",
    "view", "reshape", "expand", "squeeze", "unsqueeze", "detach", "clone", "flatten", "abs", "clamp", "__iadd__", "to",
    "float", "double", "__getitem__", "split", "chunk", "unbind", "permute", "transpose", "contiguous", "true_divide",
    "subtract", "multiply", "divide", "negative", "addcmul", "addcdiv", "normal_affine", "reciprocal", "rsqrt", "prod",
    "stack", "cat", "nanmean", "nansum", "__rtruediv__", "log1p", "expm1", "apply_", "isub", "__isub__", "__itruediv__",
}  # fmt: skip


def _not_auditable(subject: Any, regulariser: Regulariser, likelihood: Likelihood | None) -> str:
    """A reason why a misfit of the regulariser is no mistake: it uses the sample in a way that no Gaussian KL does."""
    lineage, deps, tape = subject.lineage, subject.deps, subject.tape
    if lineage.posterior == "deterministic":
        return "does not apply: nothing is sampled, so there is no posterior to be regularised (see POS02)"
    if lineage.posterior not in {"diagonal Gaussian", "deterministic"}:
        return f"the posterior is not a diagonal Gaussian ({lineage.posterior})"
    if not lineage.heads:
        return "the layer that makes mu and sigma was not seen (compiled or scripted code?)"
    if regulariser.form == "none" or (regulariser.weighed and regulariser.form != "prior density"):
        return ""
    if regulariser.form == "unknown" and _conditional_prior(subject):
        return "the prior of each example is made by parametrised functions of its own (a conditional prior)"
    behind_output = deps.ancestors(tape.roots, stop={lineage.output})
    sampled = deps.descendants([lineage.z]) - deps.descendants([lineage.output])
    names = [
        op.name for op in tape.ops
        if op.index not in lineage.decoder_ops and lineage.output not in op.outs
        and any(r in sampled and r in behind_output for r in op.reads) and any(o in behind_output for o in op.outs)
    ]  # fmt: skip
    if _weighs_samples(deps, lineage):
        return "the loss weighs samples by their own likelihood (an importance-weighted bound)"
    decoded = any(
        op.index in lineage.decoder_ops and any(o in behind_output and o != lineage.output for o in op.outs)
        for op in tape.ops
    )
    networks = "the sample passes further parametrised functions on its way to the regulariser (a flow, a learned prior network, a critic)"
    if regulariser.flow or regulariser.conditional:
        return ""
    if regulariser.form == "prior density":  # of what a network says of z it is not known whether it is a density
        return networks if decoded else ""
    latent = deps.descendants([lineage.z])
    joined = {op.name for op in tape.ops if not latent.isdisjoint(op.reads) and not behind_output.isdisjoint(op.outs)}
    if "logsumexp" in joined or (len(tape.slots[lineage.z].shape) > 2 and "softmax" in joined):
        return (
            "the loss takes a log-sum-exp over samples or components (an importance-weighted bound or a mixture prior)"
        )
    if decoded and (likelihood is None or likelihood.family != "gaussian per element" or regulariser.only_entropy):
        return networks
    if any(name not in _PLAIN for name in names):
        odd = sorted({n for n in names if n not in _PLAIN})
        return f"the regulariser compares samples with each other or with a density (`{odd[0]}`): not a KL of one posterior"
    if regulariser.coupled:
        return "the regulariser compares examples with each other (an MMD, a covariance): not a KL of one posterior"
    return ""


def _weighs_samples(deps: Dependencies, lineage: Lineage) -> bool:
    """Is there a weight, not differentiated, of how well a sample is decoded and of its own density?"""
    if lineage.output < 0:
        return False
    decoded, heads = deps.descendants([lineage.output]), deps.descendants(lineage.heads)
    useful = deps.ancestors(deps.tape.roots)
    return any(
        op.name == "detach"
        and useful.issuperset(op.outs)
        and not decoded.isdisjoint(op.reads)
        and not heads.isdisjoint(deps.ancestors(op.reads, stop={lineage.output}))
        for op in deps.tape.ops
    )


def regulariser_place(subject: Any) -> Where | None:
    """The line where the KL part is computed: the last function on heads alone before it joins the rest."""
    deps, lineage, tape = subject.deps, subject.lineage, subject.tape
    toward = deps.ancestors(tape.roots, stop={lineage.output}) - {lineage.output}
    from_heads = deps.descendants(lineage.heads)
    behind = deps.descendants([lineage.output]) if lineage.output >= 0 else set()
    chain = set(lineage.chain)
    best = None
    for op in tape.ops:
        made = [o for o in op.outs if o in toward and o in from_heads and o not in behind]
        if made and not set(made) & chain and op.index not in lineage.decoder_ops and op.place is not None:
            best = op.place
    return Where(*best) if best else None


def likelihood_place(subject: Any) -> Where | None:
    place = subject.lineage.meeting.place
    return Where(*place) if place else None
