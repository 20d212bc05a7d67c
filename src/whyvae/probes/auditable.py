"""Is the regulariser of a loss something that a Gaussian KL can be compared with?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from whyvae.audit.covariance import MOST_UNITS, rows_of_noise
from whyvae.audit.likelihood import Likelihood
from whyvae.audit.regulariser import Regulariser
from whyvae.watch.beside import FURTHER
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.draws import ABOVE, FULL, GAUSSIAN, HIERARCHY, NORMAL
from whyvae.watch.lineage import Lineage
from whyvae.watch.tape import DATA

COMPARES = "does not apply: the regulariser compares examples with each other (an MMD, a covariance): not a KL of one posterior"


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


def not_auditable(subject: Any, regulariser: Regulariser, likelihood: Likelihood | None) -> str:
    """A reason why a misfit of the regulariser is no mistake: it uses the sample in a way that no Gaussian KL does."""
    lineage, deps, tape = subject.lineage, subject.deps, subject.tape
    unlike = _unlike(lineage, deps)
    named = regulariser.form == "wrong" and regulariser.conditional and lineage.posterior == HIERARCHY
    if unlike and not named:  # a mistake in the KL of the lower level is one whatever stands above
        return unlike
    if regulariser.form == "none":
        return ""
    if regulariser.form != "exact" and _weighs_terms_together(deps, lineage):
        return "the loss weighs its two terms together by numbers from outside the step (of examples, or of samples)"
    if regulariser.weighed and regulariser.form != "prior density":
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
    decoded = FURTHER in lineage.notes and any(  # what is scored against the data is an output, and says nothing of z
        op.index in lineage.decoder_ops and any(o in behind_output and o != lineage.output for o in op.outs)
        for op in tape.ops
    )
    networks = "the sample passes further parametrised functions on its way to the regulariser (a flow, a learned prior network, a critic)"
    if regulariser.flow or regulariser.flow_prior or regulariser.conditional or regulariser.held:
        return ""
    if regulariser.form == "prior density":  # of what a network says of z it is not known whether it is a density,
        return networks if decoded and ABOVE not in lineage.notes else ""  # unless it says so by a latent above
    latent = deps.descendants([lineage.z])
    joined = {op.name for op in tape.ops if not latent.isdisjoint(op.reads) and not behind_output.isdisjoint(op.outs)}
    if "logsumexp" in joined or (len(tape.slots[lineage.z].shape) > 2 and "softmax" in joined):
        return (
            "the loss takes a log-sum-exp over samples or components (an importance-weighted bound or a mixture prior)"
        )
    if decoded and (likelihood is None or likelihood.family != "gaussian per element" or regulariser.only_entropy):
        return networks
    if regulariser.coupled:
        return COMPARES
    if any(name not in _PLAIN for name in names):
        odd = sorted({n for n in names if n not in _PLAIN})
        return f"the regulariser compares samples with each other or with a density (`{odd[0]}`): not a KL of one posterior"
    return ""


def _unlike(lineage: Lineage, deps: Dependencies) -> str:
    """Why no Gaussian posterior can be read here; "" if one can."""
    if lineage.posterior == "deterministic":
        return "does not apply: nothing is sampled, so there is no posterior to be regularised (see POS02)"
    if lineage.posterior not in GAUSSIAN:
        return f"the posterior is not Gaussian ({lineage.posterior})"
    if lineage.posterior == FULL and not (_row_by_row(lineage) and _drawn_once(deps, lineage)):
        return f"the posterior is a Gaussian of more than {MOST_UNITS} units that depend on each other, or of part of a rank"
    if not lineage.heads:
        return "the layer that makes mu and sigma was not seen (compiled or scripted code?)"
    return ""


def _row_by_row(lineage: Lineage) -> bool:
    slots = lineage.tape.slots
    return rows_of_noise(slots[lineage.eps].shape, slots[lineage.z].shape) is not None


def _drawn_once(deps: Dependencies, lineage: Lineage) -> bool:
    """Is what enters the decoder made of one normal draw (of low rank and a diagonal, of two)?"""
    behind, ops = deps.descendants([lineage.z]) | {lineage.z}, deps.tape.ops
    entering = next((r for op in ops if deps.is_mixing(op) for r in op.reads if r in behind), lineage.z)
    above = deps.ancestors([entering]) - deps.ancestors([*lineage.heads, lineage.eps]) - {lineage.eps}
    return not any(op.name in NORMAL and not above.isdisjoint((*op.outs, *op.writes)) for op in ops)


def _weighs_samples(deps: Dependencies, lineage: Lineage) -> bool:
    """Is there a weight, not differentiated, of how well a sample is decoded and of its own density?"""
    useful, both = deps.ancestors(deps.tape.roots), _made_of_both(deps, lineage)
    return any(
        (op.name == "detach" or op.func == DATA) and useful.issuperset(op.outs) and both(op.reads)
        for op in deps.tape.ops
    )


def _weighs_terms_together(deps: Dependencies, lineage: Lineage) -> bool:
    """Are both terms, once they are added, multiplied by numbers from outside the step that differ (weights of examples; weights
    of samples that left the graph through `.data`)?
    """
    known, both = {lineage.data, lineage.target, lineage.eps}, _made_of_both(deps, lineage)
    given = {
        s.index for s in deps.tape.slots
        if s.external and not s.trainable and not s.parameter and s.numel > 1 and s.index not in known
        and s.value is not None and bool((s.value != s.value.flatten()[0]).any())
    }  # fmt: skip
    return any(
        op.name in _MULTIPLYING and not given.isdisjoint(op.reads) and any(both([r]) for r in op.reads)
        for op in deps.tape.ops
    )


_MULTIPLYING = {"mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply", "dot", "matmul", "__matmul__", "einsum"}


def _made_of_both(deps: Dependencies, lineage: Lineage) -> Callable[[Iterable[int]], bool]:
    """Are slots made of the output, and of the heads by another way?"""
    decoded = deps.descendants([lineage.output]) if lineage.output >= 0 else set()
    heads = deps.descendants(lineage.heads)

    def both(slots: Iterable[int]) -> bool:
        return not decoded.isdisjoint(slots) and not heads.isdisjoint(deps.ancestors(slots, stop={lineage.output}))

    return both
