"""DAT01: see the page of the same name."""

from __future__ import annotations

import torch

from whyvae.probes.data import Data
from whyvae.rule import Rule
from whyvae.testing import Patient, factors
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

NONE = Limit(">", 0, "one NaN or Inf makes every sum it enters NaN or Inf")


def _harm(data: Data) -> str:
    if data.not_finite == data.refused:
        return "no step is taken on a batch that holds one, and what else is in it is never trained on"
    return "they spread through the loss into every weight"


def _counted(numbers: int) -> str:
    return "1 number is" if numbers == 1 else f"{numbers} numbers are"


class DataNotFinite(Rule):
    """NaN or Inf reaches the model."""

    code = "DAT01"
    stage = 0
    explains = ("TRN01", "POS01")

    @staticmethod
    def check(data: Data) -> Verdict:
        evidence = (Evidence("numbers in the data that are NaN or infinite", data.not_finite, NONE),)
        if data.not_finite == 0:
            return Healthy(evidence)
        return Finding(
            evidence,
            f"Of the data shown to the model {_counted(data.not_finite)} NaN or infinite: {_harm(data)}.",
            "error",
            0.99,
            data.at,
            remedies=(
                Remedy(
                    "clean the data",
                    "assert torch.isfinite(x).all(); drop or impute the bad rows before training",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        data = factors()
        data[::7, 3] = torch.nan
        return Patient(data=data, steps=40).train()
