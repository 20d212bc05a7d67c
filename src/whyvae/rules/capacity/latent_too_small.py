"""CAP03: see the page of the same name."""

from __future__ import annotations

from typing import get_args

from torch import Tensor

from whyvae.probe import OnDemand
from whyvae.probes.missed import MISSED
from whyvae.probes.more_latents import MoreLatents
from whyvae.probes.units import Part
from whyvae.probes.wider import WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rule import EARLIER, Rule
from whyvae.rules.capacity.blocks import severity
from whyvae.rules.capacity.gains import MATERIAL, SHARE, asked, lacking, missed
from whyvae.testing import Patient, factors, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

SPARE = Limit("<", 1, "a unit that carries nothing is a spare one: z is large enough")
WASTED = Limit(">", SHARE, "a fifth of what the code carries, as for the other parts")
BACK = Limit(
    ">",
    MISSED,
    "of 103 healthy runs of the bank, whose families are not those it is examined on, the most was 0.084; read out "
    "linearly, further units bring back less than half of what training anew with as many does",
)
WIDER = Limit(
    "<",
    SHARE,
    "a fifth: parts that are too small leave such residuals too, and are repaired first; where more latents gain many "
    "times as much, the residuals are theirs",
)


def _fitting(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return ((output - x).pow(2).sum() / (2 * 0.03) + kl(mu, logvar)) / x.shape[0]


def _too_small(wider: WiderBlocks | None, widths: Widths | None) -> bool:
    """Is CAP01 or CAP02 found by these trials? If neither is, the latents are what is left to name."""
    if wider is None or widths is None:
        return False
    return any(lacking(missed(part, wider, asked(part, widths))) for part in get_args(Part))


class LatentTooSmall(Rule):
    """The data needs more dimensions than the latent has."""

    code = "CAP03"
    stage = 50
    requires = EARLIER

    @staticmethod
    def check(more: MoreLatents, wider: OnDemand[WiderBlocks], widths: OnDemand[Widths]) -> Verdict:
        test, added = more.missed, more.missed.added
        share = test.nats / max(more.rate, 1e-9)
        most = max(more.rate, test.nats, 1e-9)
        evidence = (
            Evidence(
                f"share of the data's variance that {added} more latents would bring back",
                test.before - test.after,
                BACK,
            ),
            Evidence(f"nats per example that {added} more latents would gain", test.nats, MATERIAL, "nats"),
            Evidence("that gain, as a share of the nats the code carries", share, WASTED),
            Evidence(
                "what an encoder or decoder that is too small would gain by more width, as a share of the larger of the two",
                more.wider * more.rate / most if _too_small(wider(), widths()) else 0.0,
                WIDER,
            ),
            Evidence("latent units that carry nothing", more.units - more.active, SPARE),
        )
        if not all(e.incriminating for e in evidence):
            return Healthy(evidence)
        return Finding(
            evidence,
            f"The latent space is too small: all {more.units} units are in use, and reconstructions still miss "
            f"{test.before:.0%} of the data's variance along few directions; {added} more units would "
            f"leave {test.after:.0%}.",
            severity(share),
            0.9,
            more.at,
            nats=test.nats,
            remedies=(
                Remedy(
                    "add latents",
                    f"{2 * more.units} or more units of z, in both heads and in the decoder's first layer; those that "
                    "are not needed stay empty",
                    "architecture",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        data = factors(1536, latents=6)
        return Patient(data=data, latents=2, hidden=128, decoder_hidden=128, loss=_fitting, steps=1500).train()
