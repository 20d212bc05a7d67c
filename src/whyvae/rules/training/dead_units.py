"""TRN05: see the page of the same name."""

from __future__ import annotations

import torch
from torch import nn

from whyvae.probes.units import HiddenUnits, Layer
from whyvae.rule import Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

MOST = Limit(
    ">",
    0.9,
    "healthy trainings with ReLU leave up to 70 % of a wide layer silent and do not miss it; with less than a tenth of its "
    "width it is another, far smaller model",
)
USUAL = (
    0.7  # share of a layer that healthy trainings leave silent at most: below it, the layer was made narrow, not killed
)


def _narrow(latents: int) -> Limit:
    return Limit("<", latents, "the number of latents: what they carry does not fit through fewer numbers")


def dead(layer: Layer, latents: int) -> bool:
    """So many units are dead that the model is another one than was written."""
    return layer.share > USUAL and (MOST.broken_by(layer.share) or layer.alive < latents)


def _drowned(width: int) -> nn.Module:
    """Biases that keep all but six units below 0, as one step with too large a rate leaves them."""
    layer = nn.LayerNorm(width)
    with torch.no_grad():
        layer.bias[6:] = -60
    return layer


class DeadUnits(Rule):
    """Hidden units never fire: for no example do they pass anything on."""

    code = "TRN05"
    kind = "symptom"
    stage = 80
    requires = ("DAT01", "TRN01")

    @staticmethod
    def check(hidden: HiddenUnits) -> Verdict:
        worst = max(hidden.layers, key=lambda layer: layer.share)
        share = Evidence(f"share of dead units in the {worst.part}'s worst hidden layer", worst.share, MOST)
        alive = Evidence("numbers of that layer that can move for an example", worst.alive, _narrow(hidden.latents))
        if not dead(worst, hidden.latents):
            return Healthy((share,))
        return _finding(hidden, worst, tuple(e for e in (share, alive) if e.incriminating))

    @staticmethod
    def specimen() -> Subject:
        return Patient(activation=nn.ReLU, norm=_drowned).train()


def _finding(hidden: HiddenUnits, worst: Layer, evidence: tuple[Evidence, ...]) -> Finding:
    return Finding(
        evidence,
        f"{worst.dead} of {worst.units} units after `{worst.activation}` in the {worst.part} are dead: on all "
        f"{hidden.examples} examples looked at they give a constant and get no gradient (each fires for less than "
        f"{hidden.bound:.1%} of examples, 95 % sure).",
        "error" if worst.dead == worst.units else "warning",
        0.95,
        worst.at,
        remedies=(
            Remedy(
                "take smaller steps",
                "a tenth of the learning rate, with a warm-up; dead units do not come back: start anew",
            ),
            Remedy("let no unit die", "nn.LeakyReLU(0.1), nn.GELU or nn.SiLU in place of ReLU", "architecture"),
        ),
    )
