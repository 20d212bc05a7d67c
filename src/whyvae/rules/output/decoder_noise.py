"""OUT04: see the page of the same name."""

from __future__ import annotations

import math

from torch import Tensor

from whyvae.probes import decoder_noise
from whyvae.probes.balance import Balance
from whyvae.probes.objective import Objective
from whyvae.rule import EARLIER, Rule
from whyvae.rules.objective.weight import harm_heavy, harm_light
from whyvae.testing import Patient, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

FOUR = 4.0
REASON = "1 where the scale fits; a factor of 4 in variance, 2 in spread, costs a sixth of a nat for each number of the output"
TOO_WIDE = Limit("<", 1 / FOUR, REASON)
TOO_NARROW = Limit(">", FOUR, REASON)
WORTH = Limit(
    ">",
    1.0,
    "nats; two runs of one script with different seeds differ by less, and a scale that is free to move costs none",
)


def _normal(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """-log N(x; output, 2^2)"""
    nats = 0.5 * ((x - output) / 2.0).pow(2) + math.log(2.0) + 0.5 * math.log(2 * math.pi)
    return (nats.sum() + kl(mu, logvar)) / x.shape[0]


class DecoderNoise(Rule):
    """The decoder's learned or fixed noise scale is far from the residual."""

    code = "OUT04"
    each_part = True
    stage = 28
    requires = EARLIER
    explains = ("POS01",)

    @staticmethod
    def check(noise: decoder_noise.DecoderNoise, objective: Objective, balance: Balance) -> Verdict:
        if not noise.stated:
            return _drawn_wide(noise, balance) or Skipped(
                "does not apply: the loss states no scale of the decoder's noise"
            )
        wide = Evidence("mean squared residual over the variance the decoder claims", noise.ratio, TOO_WIDE)
        narrow = Evidence(wide.what, noise.ratio, TOO_NARROW)
        if math.isnan(noise.ratio):
            return Skipped("the residual could not be compared with the scale")
        if noise.moving and not noise.held and (wide.incriminating or narrow.incriminating):
            return Skipped(
                "does not apply: the scale is learned and on its way; whether steps are missed is asked by TRN03"
            )
        held = Evidence(
            "what the scale costs an example, as something holds it where it is", noise.cost, WORTH, unit="nats"
        )
        if wide.incriminating or (noise.held and held.incriminating and noise.ratio < 1):
            return _wide(noise, objective, balance, wide if wide.incriminating else held)
        if narrow.incriminating or (noise.held and held.incriminating):
            return _narrow(noise, balance, narrow if narrow.incriminating else held)
        return Healthy((wide, narrow))

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_normal).train()


def _wide(noise: decoder_noise.DecoderNoise, objective: Objective, balance: Balance, evidence: Evidence) -> Verdict:
    harmed = balance.too_heavy
    if not harmed and not noise.learned:
        return _drawn_wide(noise, balance) or Healthy((evidence, harm_heavy(objective, balance)))
    return _found(
        noise,
        (evidence, harm_heavy(objective, balance)) if harmed else (evidence,),
        f"The decoder claims a noise of variance {noise.variance:.3g} around its outputs, and they are off by {1 / noise.ratio:.3g} "
        "times less than that: differences between examples pass for noise, and z is not worth its KL.",
        harmed=harmed,
    )


def _narrow(noise: decoder_noise.DecoderNoise, balance: Balance, evidence: Evidence) -> Verdict:
    harmed = balance.too_light and not balance.excess_unknown
    if not harmed and not noise.learned:
        return Healthy((evidence,))
    return _found(
        noise,
        (evidence, harm_light(balance)) if harmed else (evidence,),
        f"The decoder claims a noise of variance {noise.variance:.3g} around its outputs, and they are off by {noise.ratio:.3g} "
        "times more than that: the residual outweighs the KL, and N(0, I) is never covered.",
        harmed=harmed,
    )


def _drawn_wide(noise: decoder_noise.DecoderNoise, balance: Balance) -> Finding | None:
    """The scale harms no training, but samples are drawn with it. Not where the KL is too light: the residual is then smaller
    than it is to be.
    """
    evidence = Evidence("mean squared residual over the variance of the noise that samples get", noise.drawn, TOO_WIDE)
    if math.isnan(noise.drawn) or not evidence.incriminating or balance.too_light:
        return None
    return Finding(
        (evidence,),
        f"Samples are drawn with {1 / noise.drawn:.3g} times as much noise around the decoder's outputs as these are off by: what z "
        "says is drowned in it.",
        "error",
        0.9,
        noise.drawn_at,
        remedies=(
            _fit(),
            Remedy("show the means", "samples = decoder(z), without noise around it; training needs no change"),
        ),
    )


def _fit() -> Remedy:
    return Remedy(
        "let the scale fit the residual",
        "log_sigma = nn.Parameter(torch.zeros(())) among the optimised parameters, without a clamp that binds; or no "
        "parameter at all: loss = D / 2 * log(mse) + kl, D numbers in an output",
    )


def _found(noise: decoder_noise.DecoderNoise, evidence: tuple[Evidence, ...], summary: str, *, harmed: bool) -> Finding:
    stuck = (
        " It can be learned, but its parameter gets no gradient or no step: a clamp or a detach holds it."
        if noise.held
        else " It can be learned, but did not get there: clamped, not stepped, or too slow."
        if noise.learned
        else ""
    )
    return Finding(
        evidence,
        summary + stuck,
        "error" if harmed else "warning",
        0.95 if harmed else 0.8,
        noise.at,
        remedies=(_fit(),),
    )
