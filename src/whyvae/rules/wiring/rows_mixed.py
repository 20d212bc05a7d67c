"""WIR03: see the page of the same name."""

from __future__ import annotations

from math import isnan

import torch
from torch import Tensor

from whyvae.probes.rows import RowMixing
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

ALONE = Limit(
    ">",
    1.5,
    "1 is the example itself; a sample is decoded with other companions than those of training, or with none",
)
_OTHER_AXIS = Remedy(
    "work along the features",
    "give every softmax, norm, mean and reshape the axis of features or time (dim=-1), give recurrent and attention "
    "layers batch_first=True if the batch comes first, and let reshape keep the batch axis: x.reshape(len(x), -1)",
    "certain",
)


def _softmax_over_batch(hidden: Tensor) -> Tensor:
    return hidden * torch.softmax(4 * hidden, 0) * hidden.shape[0]


class RowsMixed(Rule):
    """One example's output depends on another's input."""

    code = "WIR03"
    stage = EXACT
    requires = ("DAT01",)
    explains = ("POS01",)

    @staticmethod
    def check(rows: RowMixing) -> Verdict:
        if rows.by_design:
            return Skipped(f"does not apply: {rows.by_design}")
        if isnan(rows.encoder) and isnan(rows.decoder):
            return Skipped("does not apply: no axis counts examples both in the data and in the latent")
        evidence = (
            Evidence("examples whose latents change when one example's input is replaced", rows.encoder, ALONE),
            Evidence("examples whose outputs change when one example's latent is replaced", rows.decoder, ALONE),
        )
        guilty = tuple(e for e in evidence if not isnan(e.measured) and e.incriminating)
        if guilty:
            part = "encoder" if guilty[0] is evidence[0] else "decoder"
            return Finding(
                guilty,
                f"Examples of one batch mix in the {part}{_by(rows.op)}: what one example gives depends on which others "
                f"stand beside it (they move by {rows.others:.2g} of what it moves itself).",
                "error",
                0.99,
                rows.at,
                remedies=(_OTHER_AXIS,),
            )
        if rows.statistics:
            return Finding(
                (_by_hand(rows.statistics),),
                "Hidden values are normalised with statistics of their batch, by hand: a sample drawn alone has none.",
                "info",
                0.9,
                rows.statistics_at,
                remedies=(_OTHER_AXIS,),
            )
        return Healthy(tuple(e for e in evidence if not isnan(e.measured)))

    @staticmethod
    def specimen() -> Subject:
        return Patient(between=_softmax_over_batch, steps=300).train()


def _by(op: str) -> str:
    return f", at `{op}`" if op else ""


def _by_hand(op: str) -> Evidence:
    reason = "batch norm layers keep running statistics for evaluation; these are of the batch alone"
    text = f"`{op}` is taken over the batch, and what it gives enters every example's hidden values"
    return Evidence("statistics of the batch in use", 1, Limit(">", 0, reason), text=text)
