"""What a part of the network lacks: the gain of a wider one beside it, as evidence."""

from __future__ import annotations

from whyvae.probes.units import Part
from whyvae.probes.wider import WiderBlocks
from whyvae.probes.widths import EMPTY, Widths
from whyvae.verdict import Evidence, Limit

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
BROKEN = 0.5  # share from which generation is broken by it
MUCH = Limit(
    ">",
    BROKEN,
    "half of what the code carries, where no layer is narrower than twice the latents and half the numbers of an example: any "
    "larger model gains something on rich data",
)
TIGHT = Limit(
    ">",
    1 / 15,
    "a fifteenth of what the code carries, where a layer is narrower than twice the latents: set on four families of data; "
    "of 68 parts so narrow of four others that gained more within these few steps, each lacked 0.24 and more against "
    "one trained anew and wide (bench/narrow.py)",
)
DETAIL = Limit(
    ">",
    0.05,
    "a twentieth of what the outputs are worth, where no layer is narrower than twice the latents: six linear decoders of the bank gained "
    "0.09 of it and more, the 20 sound models beside them 0.043 at most; less is finer detail, of which any larger model gains some on rich data",
)
OTHERS = Limit(
    ">",
    0.2,
    "a fifth: a part that is large enough gets up to a sixth of it beside one that is too small, as the code is "
    "made anew for both",
)
# Patients stopped at a tenth of their training gain up to 1.5 times as much with wider parts as without. Not asked of a part
# with no more hidden units than the code has latents in use: stopped after 400 steps, each of 60 so narrow on four families of
# data lacked 0.30 and more of its code against a wide one stopped with it, and each of 64 on four others 0.34 (bench/narrow.py).
FASTER = 2.0


def asked(part: Part, widths: Widths) -> Limit:
    """Of the gain as a share of what the code carries: the wider a part is, the more."""
    return MUCH if widths.roomy(part) else TIGHT if widths.tight(part) else WASTED


def missed_for_width(part: Part, wider: WiderBlocks, widths: Widths) -> tuple[Evidence, ...]:
    """What a wider `part` beside the trained one gains, against the limits for a part as wide as that."""
    gained = _gained(part, wider, asked(part, widths))
    if wider.worth > 0 and not widths.tight(part):  # NaN, where it is not known, is not above 0
        share = getattr(wider.own, part) / wider.worth
        gained = (*gained, Evidence("its gain as a share of what the outputs are worth", share, DETAIL))
    return gained if widths.choked(part) else (*gained, _unchanged(part, wider))


def missed(part: Part, wider: WiderBlocks, share: Limit = WASTED) -> tuple[Evidence, ...]:
    """What a wider `part` beside the trained one gains; `share`: the limit on the gain as one of the code."""
    return (*_gained(part, wider, share), _unchanged(part, wider))


def _gained(part: Part, wider: WiderBlocks, share: Limit) -> tuple[Evidence, ...]:
    own, calibrated = getattr(wider.own, part), getattr(wider.calibrated, part)
    gain = Evidence(
        f"nats per example gained by a wider {part}, at the best noise variance", calibrated, MATERIAL, "nats"
    )
    wasted = Evidence(
        "its gain in the script's own objective, as a share of the nats the code carries (a bit, if less)",
        own / max(wider.rate, EMPTY),
        share,
    )
    joint = Evidence("its part of what both parts gain together", own / max(wider.own.total, 1e-9), OTHERS)
    return gain, wasted, joint


def _unchanged(part: Part, wider: WiderBlocks) -> Evidence:
    return Evidence(
        "the same steps of training with nothing enlarged gain",
        wider.own.continued,
        Limit(
            "<",
            getattr(wider.own, part) / FASTER,
            f"half of what the wider {part} gains: where training is short, wider parts also learn faster",
        ),
        "nats",
    )


def lacking(evidence: tuple[Evidence, ...]) -> bool:
    """Do all gains pass their limits?"""
    return all(e.incriminating for e in evidence)
