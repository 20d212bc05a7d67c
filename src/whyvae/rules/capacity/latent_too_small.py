"""CAP03: see the page of the same name."""

from __future__ import annotations

from statistics import NormalDist
from typing import get_args

from torch import Tensor

from whyvae.probe import OnDemand
from whyvae.probes.latents import LatentUsage
from whyvae.probes.missed import MISSED, MissedDirections
from whyvae.probes.more_latents import MoreLatents
from whyvae.probes.units import Part
from whyvae.probes.wider import WiderBlocks
from whyvae.probes.widths import EMPTY, Widths
from whyvae.rule import EARLIER, Rule
from whyvae.rules.capacity.blocks import severity
from whyvae.rules.capacity.gains import BROKEN, MATERIAL, SHARE, lacking, missed_for_width
from whyvae.testing import Patient, factors, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

SPARE = Limit("<", 1, "a unit that carries nothing is a spare one: z is large enough")
WASTED = Limit(
    ">",
    SHARE,
    "a fifth of what the code carries, as for the other parts, where reconstructions miss more than a tenth of the data's "
    "variance: of 12 healthy runs of the bank of which that holds, whose families are not those it is examined on, the most was 0.09",
)
MUCH = Limit(
    ">",
    BROKEN,
    "half of what the code carries, where reconstructions keep nine tenths of the data's variance: any more latent brings something "
    "to rich data (of 53 healthy runs of the bank the most was 0.37, on natural patches)",
)
WIDER = Limit(
    "<",
    SHARE,
    "a fifth: parts that are too small are repaired first; where more latents gain many times as much, they are what lacks",
)


def _fitting(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return ((output - x).pow(2).sum() / (2 * 0.03) + kl(mu, logvar)) / x.shape[0]


def _by_width(more: MoreLatents, wider: WiderBlocks | None, widths: Widths | None) -> Evidence:
    """What larger parts gain instead, where CAP01 or CAP02 is found by that; if neither is, the latents are what is left."""
    small = wider is not None and widths is not None and any(
        lacking(missed_for_width(part, wider, widths)) for part in get_args(Part)
    )  # fmt: skip
    gained = wider.own.total if small and wider is not None else 0.0
    return Evidence(
        "what an encoder or decoder that is too small would gain by more width, as a share of the larger of the two",
        gained / max(gained, more.own, 1e-9),
        WIDER,
    )


class LatentTooSmall(Rule):
    """The data needs more dimensions than the latent has."""

    code = "CAP03"
    stage = 50
    requires = EARLIER

    @staticmethod
    def check(
        usage: LatentUsage, trained: OnDemand[MoreLatents], wider: OnDemand[WiderBlocks], widths: OnDemand[Widths],
        residual: OnDemand[MissedDirections],
    ) -> Verdict:  # fmt: skip
        spare = Evidence("latent units that carry nothing", usage.units - usage.active, SPARE)
        if not spare.incriminating:
            return Healthy((spare,))
        more = trained()
        if more is None:
            return Skipped("does not apply: no further latents could be trained beside this model")
        left, share = residual(), more.own / max(more.rate, EMPTY)
        wasted = WASTED if left is not None and left.before > MISSED else MUCH
        evidence = (
            Evidence(
                f"nats per example that {more.added} more latents gain, at the best noise variance", more.calibrated,
                MATERIAL, "nats",
            ),
            Evidence(
                "their gain in the script's own objective, as a share of the nats the code carries (a bit, if less)", share,
                wasted,
            ),
            _by_width(more, wider(), widths()),
            spare,
        )  # fmt: skip
        if not all(e.incriminating for e in evidence):
            return Healthy(evidence)
        used = f"all {usage.units} units are in use" if usage.units > 1 else "its one unit is in use"
        missing = f", and reconstructions miss {left.before:.0%} of the data's variance" if left is not None else ""
        return Finding(
            evidence,
            f"The latent space is too small: {used}{missing}; with {more.added} more units, "
            f"{more.steps} more steps gain {more.own:.2g} nats per example, and the whole code carries {more.rate:.2g}.",
            severity(share),
            _sure(more, wasted),
            more.at,
            nats=more.calibrated,
            remedies=(
                Remedy(
                    "add latents",
                    f"{2 * usage.units} or more units of z, in both heads and in the decoder's first layer; those that "
                    "are not needed stay empty",
                    "architecture",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        data = factors(1536, latents=6)
        return Patient(data=data, latents=2, hidden=128, decoder_hidden=128, loss=_fitting, steps=1500).train()


def _sure(more: MoreLatents, wasted: Limit) -> float:
    """Probability that the gain exceeds its limit, from its standard error."""
    limit = max(MATERIAL.value, wasted.value * more.rate)
    return min(0.95, NormalDist().cdf((more.own - limit) / max(more.error, 1e-9)))
