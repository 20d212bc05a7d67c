"""CAP03: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.missed import MISSED
from whyvae.probes.more_latents import MoreLatents
from whyvae.rule import EARLIER, Rule
from whyvae.rules.capacity.blocks import severity
from whyvae.rules.capacity.gains import MATERIAL, SHARE
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


class LatentTooSmall(Rule):
    """The data needs more dimensions than the latent has."""

    code = "CAP03"
    stage = 50
    requires = EARLIER

    @staticmethod
    def check(more: MoreLatents) -> Verdict:
        missed, added = more.missed, more.missed.added
        share = missed.nats / max(more.rate, 1e-9)
        most = max(more.rate, missed.nats, 1e-9)
        evidence = (
            Evidence(
                f"share of the data's variance that {added} more latents would bring back",
                missed.before - missed.after,
                BACK,
            ),
            Evidence(f"nats per example that {added} more latents would gain", missed.nats, MATERIAL, "nats"),
            Evidence("that gain, as a share of the nats the code carries", share, WASTED),
            Evidence(
                "what a wider encoder and decoder gain, as a share of the larger of the two",
                more.wider * more.rate / most,
                WIDER,
            ),
            Evidence("latent units that carry nothing", more.units - more.active, SPARE),
        )
        if not all(e.incriminating for e in evidence):
            return Healthy(evidence)
        return Finding(
            evidence,
            f"The latent space is too small: all {more.units} units are in use, and reconstructions still miss "
            f"{missed.before:.0%} of the data's variance along few directions; {added} more units would "
            f"leave {missed.after:.0%}.",
            severity(share),
            0.9,
            more.at,
            nats=missed.nats,
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
