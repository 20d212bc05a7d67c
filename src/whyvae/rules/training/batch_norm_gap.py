"""TRN06: see the page of the same name."""

from __future__ import annotations

from torch import nn

from whyvae.probe import OnDemand
from whyvae.probes.copies import CopiedStatistics
from whyvae.probes.normalisation import Normalisation
from whyvae.rule import EARLIER, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

LOST = Limit(
    ">",
    0.1,
    "a tenth of the data's variance is as much as a good model's whole error; settled statistics cost 0.03 at most in "
    "trainings with healthy batch norm, stale ones 0.16 and more",
)
STALE = Limit(
    ">",
    0.03,
    "what settled statistics cost at most in trainings with healthy batch norm; these have not settled, as is known from "
    "their momentum and the steps",
)
NOISY = Limit(
    ">",
    0.1,
    "a tenth of the data's variance: batches of 8 and more add 0.08 at most in trainings with healthy batch norm, "
    "batches of 2 and 4 add 0.24",
)
UNLIKE = Limit(
    ">", 0.1, "a tenth of the variance between samples, as for the two modes; a copy with the statistics has 0"
)
ARRIVED = 0.05  # share of the first values (0 and 1) in the running statistics that nobody notices
FORGETFUL = 0.5  # a momentum above it: more than half of the running statistics are one batch's
FEW = 32  # numbers: the variance of as many is known to a quarter (its standard error is sqrt(2 / n))
HALF = 0.5

_WAY = "nn.BatchNorm1d(width, momentum=0.1): in PyTorch momentum is the weight of the NEW batch, so Keras' 0.99 is 0.01 here"
_RENEW = Remedy(
    "renew the statistics",
    "call reset_running_stats() on each batch norm layer, then the model in training mode under no_grad on 50 batches of "
    "the data; no retraining",
    "certain",
)
_OTHER = Remedy(
    "normalise without the batch",
    "nn.LayerNorm or nn.GroupNorm in place of batch norm: the same in both modes",
    "architecture",
)


def _first_values(norm: Normalisation) -> float:
    """Share of 0 and 1, what running statistics start from, that is still in them."""
    return 0.0 if norm.cumulative else (1 - norm.momentum) ** norm.steps


def _why(norm: Normalisation) -> tuple[str, tuple[Remedy, ...]] | None:
    """What keeps the two modes apart, and what helps; None where batch norm's own settings are not it."""
    gap, rest = norm.evaluation - norm.training, norm.renewed - norm.training
    if rest > HALF * gap and norm.kind == "instance_norm":
        why = "each example has statistics of its own, which no running average can stand for"
        return why, (
            Remedy("use the example's own statistics", "track_running_stats=False in the instance norm"),
            _OTHER,
        )
    if rest > HALF * gap:
        why = f"each batch of {norm.batch} has statistics of its own, which no running average can stand for"
        return why, (Remedy("mix and enlarge the batches", "shuffle=True and 32 or more examples in a batch"), _OTHER)
    if norm.steps == 0:
        return "renewed at these very weights they are", (_RENEW,)
    if (first := _first_values(norm)) > ARRIVED:
        why = f"after {norm.steps} steps at momentum {norm.momentum:.2g} they are still {first:.0%} the values they began with"
        return why, (_RENEW, Remedy("let them arrive", f"{_WAY}; 50 steps or more"))
    if norm.momentum > FORGETFUL and not norm.cumulative:
        return f"momentum {norm.momentum:.2g} keeps the last batch only", (_RENEW, Remedy("keep more batches", _WAY))
    if norm.cumulative:
        why = "momentum=None averages them over the whole training, most of which had other weights"
        return why, (_RENEW, Remedy("forget old weights", _WAY))
    if norm.drift_then < norm.drift / 4:
        why = "something other than training moved them after the last recorded step (a call in training mode, a reset)"
        return why, (_RENEW, Remedy("call eval() first", "model.eval() before evaluating, sampling or exporting"))
    return None


class BatchNormGap(Rule):
    """Training and evaluation mode disagree: batch norm's running statistics do not stand for its batches."""

    code = "TRN06"
    stage = 21
    requires = EARLIER
    explains = ("POS01", "TRN05", "GEN01")

    @staticmethod
    def check(norm: Normalisation, copied: OnDemand[CopiedStatistics]) -> Verdict:
        share = "as a share of the data's variance"
        lost = Evidence(
            f"squared error that evaluation mode adds to training mode's, {share}",
            norm.evaluation - norm.training,
            STALE if _first_values(norm) > ARRIVED else LOST,
        )
        noisy = Evidence(
            f"squared error that statistics of single batches add in training, {share}",
            norm.training - norm.renewed,
            NOISY,
        )
        if lost.incriminating:
            why = _why(norm)
            return Skipped(_TRAILING) if why is None else _gap(norm, (lost,), *why)
        if noisy.incriminating and norm.values < FEW:
            return _small(norm, (noisy,))
        copy = copied()
        if copy is None or not copy.fresh:
            return Healthy((lost, noisy))
        unlike = Evidence(
            "squared difference that the trained model's statistics make to samples, as a share of their variance",
            copy.changed,
            UNLIKE,
        )
        return _copy(copy, (unlike,)) if unlike.incriminating else Healthy((lost, noisy, unlike))

    @staticmethod
    def specimen() -> Subject:
        return Patient(norm=lambda width: nn.BatchNorm1d(width, momentum=1e-4), steps=400).train()


_TRAILING = (
    "batch norm's running statistics trail behind the weights, although its momentum is right: the weights still move far "
    "in ten steps (a smaller learning rate, or a decay to 0 at the end, lets them settle)"
)


def _gap(norm: Normalisation, evidence: tuple[Evidence, ...], why: str, remedies: tuple[Remedy, ...]) -> Finding:
    return Finding(
        evidence,
        f"In evaluation mode the model reconstructs with {norm.evaluation:.2g} of the data's variance as error, in training "
        f"mode with {norm.training:.2g}: the running statistics of `{norm.kind}` are not those of the data; {why}.",
        "error" if norm.evaluation > HALF else "warning",
        0.95,
        norm.at,
        remedies=remedies,
    )


def _copy(copy: CopiedStatistics, evidence: tuple[Evidence, ...]) -> Finding:
    return Finding(
        evidence,
        f"Samples are made by a copy of the model whose running statistics are those that a layer begins with (mean 0, variance 1) "
        f"in {copy.fresh} of {copy.layers} batch norms: the weights were copied or averaged, the buffers were not.",
        "error" if copy.changed > HALF else "warning",
        0.95,
        copy.at,
        remedies=(
            Remedy(
                "copy the statistics too",
                "for mine, theirs in zip(copy.buffers(), model.buffers()): mine.copy_(theirs); or AveragedModel(model, "
                "use_buffers=True); or torch.optim.swa_utils.update_bn(loader, copy)",
                "certain",
            ),
        ),
    )


def _small(norm: Normalisation, evidence: tuple[Evidence, ...]) -> Finding:
    return Finding(
        evidence,
        f"Batch norm takes its statistics from {norm.values} numbers a channel (batches of {norm.batch}): in training this "
        f"noise alone raises the error from {norm.renewed:.2g} to {norm.training:.2g} of the data's variance.",
        "warning",
        0.9,
        norm.at,
        remedies=(Remedy("enlarge the batches", "32 or more examples in a batch"), _OTHER),
    )
