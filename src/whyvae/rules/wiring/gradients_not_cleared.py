"""WIR02: see the page of the same name."""

from __future__ import annotations

from whyvae.probes.wiring import Wiring
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

LEFT = Limit(">", 1e-3, "gradients that were cleared are exactly 0 before the first backward of a step")


class GradientsNotCleared(Rule):
    """Gradients pile up over steps because nothing clears them."""

    code = "WIR02"
    stage = EXACT
    requires = ("DAT01",)
    explains = ("TRN01", "POS01", "TRN05")

    @staticmethod
    def check(wiring: Wiring) -> Verdict:
        if wiring.stale_steps == 0:
            return Skipped("does not apply: no optimiser step was recorded between two backwards")
        evidence = (
            Evidence(
                "gradient left over from earlier steps, as a share of the gradient a step uses",
                wiring.stale,
                LEFT,
            ),
        )
        if not evidence[0].incriminating:
            return Healthy(evidence)
        return Finding(
            evidence,
            "Gradients are not cleared between optimiser steps: each step follows the sum of all gradients so far.",
            "error",
            0.99,
            wiring.backward_at,
            remedies=(
                Remedy(
                    "clear the gradients",
                    "optimizer.zero_grad() before each loss.backward()",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(zero_grad=False, steps=200).train()
