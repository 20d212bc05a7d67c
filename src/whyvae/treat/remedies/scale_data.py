"""The scale of the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from whyvae.probes.balance import Balance
from whyvae.probes.data import Data
from whyvae.probes.objective import Objective
from whyvae.probes.output import OutputRange
from whyvae.treat.remedy import Remedy, Treatment

if TYPE_CHECKING:
    from whyvae.treat.case import Case

AROUND = 1.01  # [-1, 1] is a range of pixels as well; what reaches further below 0 is none
MIXED = 10.0  # features that reach this much further than the median one are scaled one by one


class ScaleData(Remedy):
    name = "scale_data"
    treats = ("OUT01", "OUT02", "DAT02")

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        data, output = case.get(Data), case.get(OutputRange)
        if data is None:
            return
        low, high = data.target_low, data.target_high
        if code == "OUT01" and (output is None or output.low < -0.01 or output.high > 1.01):
            return  # only what ends in [0, 1] has the range that data is scaled to
        if code == "OUT01" and low < -AROUND:
            return  # standardised, and meant to be: it is the output that has the wrong range
        if code == "DAT02" and (data.spread_ratio > MIXED or low < 0 or data.part):
            says = "scales each feature of the data to mean 0 and spread 1"
            yield cls.treatment(code, says, how="standardise")
            return
        low = round_down(low, high)
        says = f"scales the data from [{low:.4g}, {high:.4g}] to [0, 1], before training"
        scale: dict[str, Any] = {"how": "range", "low": low, "high": round_up(high)}
        objective, balance = case.get(Objective), case.get(Balance)
        if objective is not None and objective.family == "gaussian" and not objective.learned_scale:
            if balance is not None and objective.noise_variance > 0 and balance.reachable > 0:
                fits = balance.reachable / (scale["high"] - low) ** 2  # the residual, on the new scale
                factor = float(f"{fits / objective.noise_variance:.2g}")
                yield cls.treatment(code, f"{says}, and the weight of the KL with it", **scale, kl_factor=factor)
            yield cls.treatment(code, f"{says}; the noise variance follows the residual", **scale, calibrate=True)
        yield cls.treatment(code, says, **scale)


def round_down(low: float, high: float) -> float:
    """0 for a smallest value that is next to 0."""
    return 0.0 if 0 <= low < 0.05 * high else low


def round_up(high: float) -> float:
    """255 for the largest of 8-bit pixels."""
    return 255.0 if 200 < high <= 255 else high
