"""What the rules on encoder and decoder share: the gain of the larger part, as evidence."""

from __future__ import annotations

from statistics import NormalDist
from typing import Literal

from torch import Tensor

from whyvae.probes.units import UnitsIfAny
from whyvae.probes.wider import WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rules.training.dead_units import dead
from whyvae.testing import kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Severity, Skipped, Verdict

MATERIAL = Limit(
    ">", 0.5, "half a nat: where both parts are large enough, the same enlargement gains less than a tenth of a nat"
)
SHARE = 0.2
WASTED = Limit(
    ">",
    SHARE,
    "a fifth of what the code carries: parts that are large enough gain less than a thirtieth; VAEs that reach half of "
    "their code more when trained anew and wider mostly gain more than a fifth within these few steps",
)
OTHERS = Limit(
    ">",
    0.2,
    "a fifth: a part that is large enough gets up to a sixth of it beside one that is too small, as the code is "
    "made anew for both",
)
FASTER = 2.0  # patients stopped at a tenth of their training gain up to 1.5 times as much with wider parts as without
BROKEN = 0.5  # share from which generation is broken by it

Part = Literal["encoder", "decoder"]


def judged(part: Part, wider: WiderBlocks, widths: Widths, units: UnitsIfAny, remedy: Remedy) -> Verdict:
    """The verdict on `part`. A part with dead units is narrow whatever its width: nothing is said of how it was made."""
    if any(dead(layer, units.latents) for layer in units.layers):
        return Skipped("explained by TRN05: so many hidden units are dead that the widths say nothing")
    own, calibrated = getattr(wider.own, part), getattr(wider.calibrated, part)
    share = own / max(wider.rate, 1e-9)
    gain = Evidence(
        f"nats per example gained by a wider {part}, at the best noise variance", calibrated, MATERIAL, "nats"
    )
    wasted = Evidence("its gain in the script's own objective, as a share of the nats the code carries", share, WASTED)
    unchanged = Evidence(
        "the same steps of training with nothing enlarged gain",
        wider.own.continued,
        Limit(
            "<",
            own / FASTER,
            f"half of what the wider {part} gains: where training is short, wider parts also learn faster",
        ),
        "nats",
    )
    joint = Evidence("its part of what both parts gain together", own / max(wider.own.total, 1e-9), OTHERS)
    evidence = (gain, wasted, joint, unchanged)
    if not all(e.incriminating for e in evidence):
        return Healthy(evidence)
    return Finding(
        (*evidence, narrow(part, widths)),
        f"The {part} is too small: with a wider one beside it, {wider.steps} more steps gain {own:.2g} nats per example, "
        f"and the whole code carries {wider.rate:.2g}. {_named(part, widths)}",
        severity(share),
        _sure(own, wider),
        where=getattr(widths, f"{part}_at"),
        nats=calibrated,
        remedies=(remedy,),
    )


def narrow(part: Part, widths: Widths) -> Evidence:
    """The narrowest layer against what latents need to pass it."""
    width = getattr(widths, part)
    reason = f"twice the {widths.latents} latents: a layer of rectifiers needs as many to keep both signs of each"
    return Evidence(
        f"numbers that the narrowest hidden layer of the {part} makes of an example (0: there is none)",
        width,
        Limit("<", 2 * widths.latents, reason),
    )


def severity(share: float) -> Severity:
    return "error" if share > BROKEN else "warning"


def _named(part: Part, widths: Widths) -> str:
    width = getattr(widths, part)
    return f"Its narrowest layer makes {width} numbers of an example." if width else "It has no hidden layer."


def _sure(own: float, wider: WiderBlocks) -> float:
    """Probability that the gain exceeds its limit, from its standard error."""
    limit = max(MATERIAL.value, SHARE * wider.rate)
    return min(0.99, NormalDist().cdf((own - limit) / max(wider.error, 1e-9)))


def fitting(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """A loss of the specimens whose noise variance fits what digits leave."""
    return ((output - x).pow(2).sum() / (2 * 0.02) + kl(mu, logvar)) / x.shape[0]
