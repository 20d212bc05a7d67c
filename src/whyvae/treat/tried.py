"""What a trial is made of: each treatment with what came of it, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from whyvae.rule import EXACT, all_rules
from whyvae.treat.effect import SEED_TO_SEED, Effect, Outcome, effect, mean
from whyvae.treat.remedy import Treatment

JSON = dict[str, Any]
SHOWING = ("GEN02", "GEN03", "GEN04")  # how samples are drawn and shown: the model itself is not at fault
BY_HAND = ("snippet", "where", "why_no_edit")  # of a plan: what a person is told where there is no edit


@dataclass(frozen=True, slots=True)
class Tried:
    """One treatment, and what came of it. `sources`: path -> text of the files it edits, {} where it was injected."""

    treatment: Treatment
    round: int
    sources: dict[str, str]
    result: JSON
    effect: Effect | None = None
    over_placebo: Effect | None = None
    sampler: str = ""  # what latents were drawn from in place of N(0, I), nothing retrained
    cured: bool = False  # the cause is found no more
    share: float = 1.0  # of the control's steps
    seeds: int = 1
    folder: str = ""
    by_hand: JSON = field(default_factory=dict)

    @property
    def failed(self) -> str:
        return str(self.result.get("failed", "") or self.result.get("error", ""))

    @property
    def verified(self) -> bool:
        if self.sampler:
            return self.effect is not None and self.effect.sure
        if self.failed or not self.cured:
            return False
        return self.treatment.codes[0] in SHOWING or self.better

    @property
    def better(self) -> bool:
        """Are samples surely better than those of the script as it is, from its own seeds and from others?"""
        return bool(self.effect and self.over_placebo and self.effect.sure and self.over_placebo.sure)

    @property
    def enough(self) -> bool:
        """Proven, and nothing is left to cure."""
        return self.verified and not self.sampler and not self.codes_left

    @property
    def codes_left(self) -> list[str]:
        return serious(self.result.get("record"))

    @property
    def outcome(self) -> Outcome | None:
        return outcome_of(self.result)

    @property
    def after(self) -> float | None:
        """Likeness of the samples after the change; None where there are none."""
        found = self.outcome
        return None if found is None else mean(found.fitted if self.sampler else found.prior)


@dataclass(slots=True)
class Trial:
    """What a fix has come to. `stopped`: why it ended before it was done, "" if it was."""

    control: JSON
    tried: list[Tried] = field(default_factory=list)
    taken: list[Tried] = field(default_factory=list)  # the best of each round, one on top of the other
    advice: list[JSON] = field(default_factory=list)  # what could not be tried: a snippet, and where it goes
    originals: dict[str, str] = field(default_factory=dict)  # path -> text of the files that patches are made of
    seconds: float = 0.0
    stopped: str = ""

    @property
    def sources(self) -> dict[str, str]:
        return {path: text for tried in self.taken for path, text in tried.sources.items()}

    @property
    def record_after(self) -> JSON | None:
        return self.taken[-1].result.get("record") if self.taken else self.control.get("record")

    @property
    def verified(self) -> bool:
        """Is the last change verified, and was each one before it, or were samples surely better with it?"""
        return bool(self.taken) and self.taken[-1].verified and all(t.verified or t.better for t in self.taken)

    @property
    def healthy_after(self) -> bool:
        record = self.record_after
        return record is not None and record["verdict"] == "healthy"


def serious(record: JSON | None) -> list[str]:
    """Codes of the findings that stand, first cause first."""
    return [f["code"] for f in (record or {}).get("findings", []) if f["severity"] != "info"]


def outcome_of(result: JSON | None) -> Outcome | None:
    """None where there is none, or no samples were seen in it."""
    found = Outcome.of(result["outcome"]) if result and "outcome" in result else None
    return found if found is not None and found.prior else None


def best(tried: list[Tried], than: Tried | None = None) -> Tried | None:
    """The one to go on with: verified before cured, cured before better; of those what leaves least, then what generates
    best. None that makes surely worse samples than the script as it is, or than what was taken before (`than`); but where the
    fault is a certificate's and nothing is left, the script is right now, whatever a score of samples says.
    """

    def key(t: Tried) -> tuple[bool, bool, bool, int, float]:
        healthy = t.result["record"]["verdict"] == "healthy"
        return t.verified, t.cured, healthy, -len(t.codes_left), t.effect.value if t.effect else 0.0

    fit = [t for t in tried if not t.failed and _forward(t) and not _worse(t, than)]
    return max(fit, key=key) if fit else None


def _forward(t: Tried) -> bool:
    """Was the fault removed and nothing made worse, or were samples made better though it is not gone?"""
    spoilt = t.effect is not None and t.effect.high < 0
    if spoilt and t.cured and not t.codes_left:
        return all_rules()[t.treatment.codes[0]].stage == EXACT
    return (t.cured and not spoilt) or ("record" in t.result and t.better)


def _worse(t: Tried, than: Tried | None) -> bool:
    after, before = t.outcome, than.outcome if than else None
    return after is not None and before is not None and effect(after.prior, before.prior, SEED_TO_SEED).high < 0
