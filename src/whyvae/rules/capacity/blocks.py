"""What the rules on encoder and decoder share: the verdict on a part, from what a wider one gains."""

from __future__ import annotations

from statistics import NormalDist

from whyvae.probe import OnDemand
from whyvae.probes.straight import Straight
from whyvae.probes.units import HiddenUnits, Part
from whyvae.probes.wider import WiderBlocks
from whyvae.probes.widths import EMPTY, Widths
from whyvae.rules.capacity.gains import BROKEN, MATERIAL, asked, lacking, missed, missed_for_width
from whyvae.rules.training.dead_units import asked_of, nearly_dead
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Severity, Skipped, Verdict

BEND = Remedy(
    "put an activation between the layers",
    "nn.ReLU() or another one behind each hidden layer: without it any number of layers is one linear map",
    "architecture",
)


def judged(
    part: Part, wider: WiderBlocks, widths: Widths, units: OnDemand[HiddenUnits], straight: OnDemand[Straight],
    remedy: Remedy,
) -> Verdict:  # fmt: skip
    """The verdict on `part`. Where dead units are missed, the widths that were written say nothing."""
    evidence = missed_for_width(part, wider, widths)
    if not lacking(evidence):
        return Healthy(evidence)
    hidden = units()
    suspects = nearly_dead(hidden) if hidden else []
    if hidden and any(lacking(missed(s.part, wider, asked_of(s, hidden.latents))) for s in suspects):
        return Skipped("explained by TRN05: so many hidden units are dead that the widths say nothing")
    own, lines = getattr(wider.own, part), straight()
    linear = getattr(lines, part) if lines is not None else 0
    return Finding(
        (*evidence, narrow(part, widths)),
        f"The {part} is too small: with a wider one beside it, {wider.steps} more steps gain {own:.2g} nats per example, "
        f"and the whole code carries {wider.rate:.2g}. {_named(part, widths, linear)}",
        severity(own / max(wider.rate, EMPTY)),
        _sure(own, wider, asked(part, widths).value),
        where=getattr(widths, f"{part}_at"),
        nats=getattr(wider.calibrated, part),
        remedies=(BEND, remedy) if linear else (remedy,),
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


def _named(part: Part, widths: Widths, linear: int) -> str:
    if linear:
        return f"No activation stands between its {linear} layers: however wide, they are one linear map."
    width = getattr(widths, part)
    return f"Its narrowest layer makes {width} numbers of an example." if width else "It has no hidden layer."


def _sure(own: float, wider: WiderBlocks, share: float) -> float:
    """Probability that the gain exceeds its limit, from its standard error."""
    limit = max(MATERIAL.value, share * wider.rate)
    return min(0.99, NormalDist().cdf((own - limit) / max(wider.error, 1e-9)))
