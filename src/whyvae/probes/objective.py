"""What the loss really is: the audit's answer as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from whyvae.audit.likelihood import Likelihood, audit_likelihood
from whyvae.audit.links import CLASSES
from whyvae.audit.reductions import Reductions, reductions
from whyvae.audit.regulariser import Regulariser, audit_regulariser
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.auditable import not_auditable
from whyvae.probes.implied import at_first, at_half_batch, noise_variance_of
from whyvae.verdict import Where
from whyvae.watch.draws import GAUSSIAN
from whyvae.watch.lineage import Lineage
from whyvae.watch.meetings import further_outputs
from whyvae.watch.replay import Replay, ReplayFailed

UNIT = 1e-3  # how exactly a weight of 1 is one


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
        why_not = not_auditable(subject, regulariser, likelihood)
        scale = likelihood.scale if likelihood is not None else math.nan
        s = noise_variance_of(regulariser, likelihood)
        features = _features(subject, likelihood)
        batch = subject.tape.slots[lineage.z].shape[0] if subject.tape.slots[lineage.z].shape else 1
        return cls(
            lineage.posterior, regulariser,
            likelihood.family if likelihood else "none", likelihood.name if likelihood else "not found",
            scale, likelihood.sign if likelihood else 1, likelihood.residual if likelihood else 1.0,
            s, at_first(subject, s), at_half_batch(subject, s, likelihood), features, lineage.latents, batch,
            reductions(subject.deps, lineage), _learned(subject, likelihood), why_not, _meeting_name(subject),
            regulariser_place(subject), likelihood_place(subject), _pull(likelihood), _prior_is_learned(subject),
        )  # fmt: skip

    @property
    def auditable(self) -> bool:
        return self.not_auditable == "" and self.posterior in GAUSSIAN

    @property
    def sampling_mistake(self) -> str:
        """Where the KL is a Gaussian KL, but of another spread than the one that is sampled."""
        if self.not_auditable or self.regulariser.form != "wrong":
            return ""
        if self.regulariser.mistake.startswith("log sigma is passed"):
            return "the noise is multiplied by the variance, not by the standard deviation"
        factor = self.noise_factor
        return "" if factor is None else f"the noise is {factor:.3g} times the standard deviation in the KL"

    @property
    def noise_factor(self) -> float | None:
        """How many times the standard deviation in the KL is sampled with, where that is the mistake."""
        c1, c2, c3, _ = self.regulariser.coefficients
        if self.not_auditable or self.regulariser.form != "wrong":
            return None
        if self.regulariser.mistake.startswith("log sigma is passed"):
            return None
        same = c1 > 0 and abs(c1 - c3) < 1e-3 * c1
        return (c3 / c2) ** 0.5 if same and c2 > 0 and self.regulariser.residual < 1e-3 else None

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
    def poisson(self) -> bool:
        return self.family in {"poisson", "poisson rates"}

    @property
    def closed(self) -> bool:
        """Is what an example costs a formula of its output and its target that trials can write down?"""
        return self.gaussian or self.bernoulli or self.poisson

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
    points, numbers = likelihood.pair(likelihood.output, target)
    way = numbers.reshape(points.shape) - points
    gradient = gradient.movedim(likelihood.axis, -1) if likelihood.of_classes else gradient
    gradient = -gradient if likelihood.falls else gradient
    size = float(way.norm() * gradient.norm())
    return -float((way * gradient).sum()) / size if size > 0 else math.nan


def _prior_is_learned(subject: Any) -> bool:
    """Do parameters that are neither the encoder's nor the decoder's meet the posterior or its sample in the loss, before
    they meet the output? (Those of a likelihood's scale meet the output alone.)
    """
    deps, lineage, tape = subject.deps, subject.lineage, subject.tape
    beside = deps.ancestors(tape.roots, stop={lineage.output, lineage.z, *lineage.heads})
    known = deps.ancestors([lineage.output]) | deps.ancestors(lineage.heads)
    seen = deps.descendants([lineage.output])
    latent = (deps.descendants([lineage.z, *lineage.heads]) - seen - known) | {lineage.z, *lineage.heads}
    reached = {s for s in beside if tape.slots[s].trainable and s not in known}
    for op in tape.ops:
        if not reached.isdisjoint(op.reads) and seen.isdisjoint(op.reads):
            if not latent.isdisjoint(op.reads):
                return True
            reached.update((*op.outs, *op.writes))
    return False


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


def _features(subject: Any, likelihood: Likelihood | None) -> int:
    slots = subject.tape.slots
    rows = (
        slots[subject.lineage.data].shape[0] if subject.lineage.data >= 0 and slots[subject.lineage.data].shape else 1
    )
    if likelihood is None or likelihood.target is None:
        return 0
    return int(likelihood.target.numel() // max(1, rows))


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


def regulariser_place(subject: Any) -> Where | None:
    """The line where the KL part is computed: the last function on heads alone before it joins the rest."""
    deps, lineage, tape = subject.deps, subject.lineage, subject.tape
    toward = deps.ancestors(tape.roots, stop={lineage.output}) - {lineage.output}
    from_heads = deps.descendants(lineage.heads)
    likelihoods = {lineage.output, *further_outputs(deps, lineage.z, lineage.data, lineage.output)}
    behind = deps.descendants(likelihoods) if lineage.output >= 0 else set()
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
