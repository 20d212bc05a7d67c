"""TRN05: see the page of the same name."""

from __future__ import annotations

import torch
from torch import nn

from whyvae.probe import OnDemand
from whyvae.probes.units import HiddenUnits, Layer
from whyvae.probes.wider import WiderBlocks
from whyvae.rule import Rule
from whyvae.rules.capacity.gains import TIGHT, WASTED, lacking, missed
from whyvae.testing import Patient, digits, fitting
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

MOST = Limit(
    ">",
    0.7,
    "healthy trainings with ReLU leave up to 70 % of a wide layer silent; above it, what is left is looked at",
)
FEW = 0.9  # above this share a layer is looked at even if it is wider than the code


def _narrow(latents: int) -> Limit:
    return Limit("<", latents, "the number of latents: what they carry does not fit through fewer numbers")


def nearly_dead(hidden: HiddenUnits) -> list[Layer]:
    """Layers that may lack the units that are dead: healthy networks lose as many where they are wider than need be, and
    a layer of no more numbers than latents is too narrow with all of them alive (CAP01, CAP02).
    """
    silent = [layer for layer in hidden.layers if MOST.broken_by(layer.share)]
    return [layer for layer in silent if layer.share > FEW or layer.alive < hidden.latents < layer.made]


def asked_of(layer: Layer, latents: int) -> Limit:
    """Of a gain as a share of the code: what lives of a layer is its width."""
    return TIGHT if layer.alive < 2 * latents else WASTED


def _drowned(width: int) -> nn.Module:
    """Biases that keep all but four units below 0, as one step with too large a rate leaves them."""
    layer = nn.LayerNorm(width)
    with torch.no_grad():
        layer.bias[4:] = -60
    return layer


class DeadUnits(Rule):
    """Hidden units never fire: for no example do they pass anything on."""

    code = "TRN05"
    kind = "symptom"
    stage = 80
    requires = ("DAT01", "TRN01")

    @staticmethod
    def check(hidden: HiddenUnits, wider: OnDemand[WiderBlocks]) -> Verdict:
        harms = harmed(hidden, wider)
        for layer, harm in harms:
            if lacking(harm):
                return _finding(hidden, layer, (share_dead(layer), *harm))
        worst = max(hidden.layers, key=lambda layer: layer.share)
        return Healthy((share_dead(worst), *(e for _, harm in harms for e in harm)))

    @staticmethod
    def specimen() -> Subject:
        return Patient(data=digits(), latents=6, activation=nn.ReLU, norm=_drowned, loss=fitting, steps=3000).train()


def harmed(hidden: HiddenUnits, wider: OnDemand[WiderBlocks]) -> list[tuple[Layer, tuple[Evidence, ...]]]:
    """Layers that are nearly dead, the worst first, each with what its dead units cost."""
    suspects = sorted(nearly_dead(hidden), key=lambda layer: -layer.share)
    return [(layer, _harm(layer, wider(), hidden.latents)) for layer in suspects]


def share_dead(layer: Layer) -> Evidence:
    return Evidence(f"share of dead units in the {layer.part}'s worst hidden layer", layer.share, MOST)


def _harm(layer: Layer, wider: WiderBlocks | None, latents: int) -> tuple[Evidence, ...]:
    """What the network gains with living units beside the layer; where no trial can say it, what is left of the layer."""
    if wider is not None:
        return missed(layer.part, wider, asked_of(layer, latents))
    return (Evidence("numbers of that layer that can move for an example", layer.alive, _narrow(latents)),)


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
