"""POS05: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.bypass import SAVED, Bypass
from whyvae.rule import EXACT, Rule
from whyvae.testing import Model, Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

NEEDS_SIDE = Limit(
    ">",
    0.5,
    "half of what a constant output leaves: without the data by that way, an output is no picture of anything",
)
NEEDS_Z = Limit(
    "<",
    0.05,
    "of the growth without the side path: a twentieth or less of the reconstruction is z's, and z is all a new sample has",
)
_MISSING = Limit(">", 0, "what half of the reconstruction came from is missing there")
_ALONE = Evidence(
    "new samples decoded from z alone",
    1,
    _MISSING,
    text="where the script decodes draws, constants stand in the place of the side path",
)
_FEATURES = Evidence(
    "features that need an example",
    1,
    _MISSING,
    text="the side path begins at features of the encoder's from which all of z is made: a new sample has none",
)
SAVES = Limit(
    "<",
    SAVED,
    "a code that saves less than 1 nat tells apart fewer than e = 2.7 kinds of example",
)


def _hidden_too(model: Model, z: Tensor, hidden: Tensor) -> Tensor:
    output: Tensor = model.decoder[-1](model.decoder[:-1](z) + hidden)
    return output


class LatentBypassed(Rule):
    """The decoder gets the input, or its own past, by another way and needs no latent."""

    code = "POS05"
    stage = EXACT
    requires = ("DAT01", "POS02")
    explains = ("POS01",)

    @staticmethod
    def check(bypass: Bypass) -> Verdict:
        if not bypass.leak:
            return Healthy((_leak("with z held, the output does not change with the data", 0.0),))
        side = Evidence(
            "growth of the reconstruction error when the side path shows another example", bypass.side, NEEDS_SIDE
        )
        share = Evidence("the same for z, as a share of that growth", bypass.latent / max(bypass.side, 1e-12), NEEDS_Z)
        gain = Evidence("what an example's own z saves", bypass.gain, SAVES, unit="nats")
        if not side.incriminating:
            return Healthy((side,))
        if bypass.own:
            if share.incriminating:
                return _by_skip(bypass, (side, share), "with another example's z the output hardly changes")
            if bypass.alone:
                return _by_skip(bypass, (side, _ALONE), "this script decodes new samples without it")
            if bypass.features:
                return _by_skip(bypass, (side, _FEATURES), "it is shown the encoder's own features")
            return Healthy((side, share))
        if gain.incriminating and not bypass.heavy:
            return _by_past(bypass, (side, gain))
        return Healthy((side, gain))

    @staticmethod
    def specimen() -> Subject:
        return Patient(decode=_hidden_too, steps=600).train()


def _leak(text: str, measured: float) -> Evidence:
    return Evidence("ways from the data to the output beside z", measured, Limit(">", 0, "a VAE has none"), text=text)


def _by_skip(bypass: Bypass, evidence: tuple[Evidence, ...], why: str) -> Finding:
    return Finding(
        evidence,
        f"The decoder is shown the example itself by a way around z, and reconstructs from that: {why}. "
        "A new sample has nothing but z, so it cannot look like the data.",
        "error",
        0.99,
        bypass.at,
        remedies=(
            Remedy(
                "cut the side path",
                "give the decoder z alone: no encoder features, no input, no mu or hidden state beside it",
                "architecture",
            ),
        ),
    )


def _by_past(bypass: Bypass, evidence: tuple[Evidence, ...]) -> Finding:
    return Finding(
        evidence,
        "The decoder predicts each step from the true steps before it so well that z saves nothing: the latent is unused, "
        "and what is sampled does not depend on it.",
        "warning",
        0.9,
        bypass.at,
        remedies=(
            Remedy(
                "weaken the way around z",
                "drop 30 to 60 % of the decoder's input steps in training, or feed it z alone at each step",
            ),
            Remedy("keep the code alive", "free bits: kl = torch.clamp(kl_per_unit.mean(0), min=0.25).sum()"),
        ),
    )
