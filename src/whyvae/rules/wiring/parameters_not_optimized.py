"""WIR01: see the page of the same name."""

from __future__ import annotations

from whyvae.probes.wiring import Wiring
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

NONE = Limit(">", 0, "a parameter with a gradient that no step ever changes stays at its random start")
IDLE = Limit(">", 0.01, "a share of the weights below this (a spare bias) changes nothing that can be seen")


def _frozen(wiring: Wiring) -> Finding:
    share = Evidence(
        "share of encoder and decoder weights that are frozen as they were drawn", wiring.frozen_share, NONE
    )
    return Finding(
        (share,),
        f"{len(wiring.frozen)} parameters ask for no gradient and are still what they were drawn as: {_listed(wiring.frozen)}. The "
        "optimiser was given them and cannot move them.",
        "error",
        0.99,
        wiring.step_at,
        remedies=(
            Remedy(
                "let them be trained",
                "take out requires_grad_(False); freeze a copy, copy.deepcopy(decoder), where one is to stand still",
            ),
        ),
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


class ParametersNotOptimized(Rule):
    """Parameters get a gradient but are never stepped, or get no gradient at all."""

    code = "WIR01"
    stage = EXACT
    requires = ("DAT01",)
    explains = ("POS01",)

    @staticmethod
    def check(wiring: Wiring) -> Verdict:
        if not wiring.optimizers and not wiring.unstepped:
            return Skipped("does not apply: no torch optimiser stepped, and no parameter is known to have stood still")
        evidence = (
            Evidence(
                "share of encoder and decoder weights that no optimiser steps",
                wiring.unstepped_share,
                NONE,
            ),
            Evidence(
                "share of encoder and decoder weights that get no gradient",
                wiring.without_gradient_share,
                IDLE,
            ),
        )
        if wiring.frozen:
            return _frozen(wiring)
        guilty = tuple(e for e in evidence if e.incriminating)
        if not guilty:
            return Healthy(evidence)
        names = wiring.unstepped or wiring.without_gradient
        listed = _listed(names)
        summary = (
            f"{len(names)} parameters are trained by nobody: {listed} get a gradient, but no optimiser steps them."
            if wiring.unstepped
            else f"{len(names)} parameters get no gradient from the loss: {listed}."
        )
        how = "torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=...); layers kept in a plain list belong in nn.ModuleList"
        return Finding(
            guilty,
            summary,
            "error",
            0.99,
            wiring.step_at,
            remedies=(Remedy("give the optimiser all parameters", how),),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(
            optimised=lambda model: [
                *model.encoder.parameters(),
                *model.mu.parameters(),
                *model.logvar.parameters(),
            ]
        ).train()
