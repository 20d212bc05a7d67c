"""GEN03: see the page of the same name."""

from __future__ import annotations

import torch
from torch import nn

from whyvae.probes.sampling_mode import SEEN, Mode, SamplingMode
from whyvae.rule import Rule
from whyvae.testing import Model, Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

NOISE = Limit(">", 0.01, "dropout's noise is a tenth of the spread between samples, in standard deviations")
BATCH = Limit(
    ">", SEEN, "a twentieth of the variance between samples: what a batch's own statistics do to many samples at once"
)
BROKEN = 0.2  # as much as would be seen as noise on every sample
NAMES = {"batch_norm": "batch norm"}


def _limit(mode: Mode) -> Limit:
    return NOISE if any("dropout" in name for name in mode.layers) else BATCH


def _evidence(mode: Mode) -> Evidence:
    what = "what training mode changes in the samples, in units of the variance between samples"
    return Evidence(what, mode.changed, _limit(mode))


def _summary(mode: Mode) -> str:
    layers = " and ".join(NAMES.get(name, "dropout") for name in mode.layers)
    effects = []
    if "batch_norm" in mode.layers:
        effects.append("each sample depends on the others it is decoded with")
    if any("dropout" in name for name in mode.layers):
        effects.append("units are switched off at random")
    return f"The decoder's {layers} was still in training mode when new samples were made: {', and '.join(effects)}."


def _finding(mode: Mode) -> Finding:
    how = "call model.eval() before sampling (and model.train() before training goes on); F.dropout needs training=self.training"
    severity = "error" if mode.changed > BROKEN else "warning"
    remedy = Remedy("sample in evaluation mode", how, "certain")
    return Finding((_evidence(mode),), _summary(mode), severity, 0.97, mode.at, remedies=(remedy,))  # type: ignore[arg-type]


def _in_training_mode(model: Model) -> None:
    with torch.no_grad():
        model.decoder(torch.randn(4, model.mu.out_features))


class GeneratedInTrainMode(Rule):
    """Dropout or batch norm still in training mode at generation."""

    code = "GEN03"
    stage = 70
    requires = ("DAT01",)  # exact, and not healed by repairing the training: stands beside what is wrong there

    @staticmethod
    def check(mode: SamplingMode) -> Verdict:
        wrong = [m for m in mode.places if _limit(m).broken_by(m.changed)]
        last = mode.places[-1]
        if wrong and (wrong[-1] is last or len(wrong) == len(mode.places)):
            return _finding(wrong[-1])
        return Healthy((_evidence(last),))

    @staticmethod
    def specimen() -> Subject:
        return Patient(norm=nn.BatchNorm1d, generate=_in_training_mode).train()
