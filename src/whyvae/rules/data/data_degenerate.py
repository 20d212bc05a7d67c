"""DAT03: see the page of the same name."""

from __future__ import annotations

from math import isinf

from whyvae.probes.variety import Variety
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient, factors
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

PER_UNIT, FEWEST, MOST = 5, 20, 100
MOVES = Limit("<", 2, "one number that varies needs no latent space, and none that varies leaves nothing to learn")
HALF = Limit(">", 0.5, "the best model of data that are mostly one example is that example")
SHARE = Limit("<", 0.25, "a quarter: held-out parts and chosen subsets are smaller than the rest, not most of the data")


class DataDegenerate(Rule):
    """The data are constant, duplicated, or too few distinct examples to learn from."""

    code = "DAT03"
    stage = EXACT
    requires = ("DAT01",)
    explains = ("POS01",)

    @staticmethod
    def check(variety: Variety) -> Verdict:
        moving = Evidence("features that differ between examples", variety.moving, MOVES)
        if variety.features > 2 and moving.incriminating:
            return _constant(variety, moving)
        common = Evidence("share of the examples that are one and the same", variety.commonest, HALF)
        if variety.rows >= FEWEST and common.incriminating:
            return _repeated(variety, common)
        if (
            isinf(variety.estimate) or variety.rows < 2 * variety.distinct
        ):  # most came once: how many there are is not known
            return Healthy((moving, common))
        few = Evidence("different examples that the script trains on", variety.estimate, _few(variety))
        if few.incriminating:
            return _too_few(variety, few)
        shown = Evidence(
            "share of the examples at hand that training ever sees",
            variety.estimate / max(variety.available, 1) if variety.available else 1.0,
            SHARE,
        )
        if shown.incriminating and not variety.binary:  # patterns of bits repeat among the examples at hand too
            return _unseen(variety, shown)
        return Healthy((moving, common, few, shown))

    @staticmethod
    def specimen() -> Subject:
        return Patient(data=factors(16).repeat(16, 1), steps=300).train()


def _few(variety: Variety) -> Limit:
    if variety.binary:  # patterns of bits are few by nature
        return Limit("<", PER_UNIT * 2, "ten patterns: a table of them is shorter than any model")
    units = max(FEWEST, min(PER_UNIT * variety.latents, MOST))
    return Limit(
        "<",
        units,
        f"{PER_UNIT} for each latent unit, and no less than {FEWEST}: with fewer, encodings are that many islands in "
        "N(0, I), and a draw from it falls between them",
    )


def _found(variety: Variety, evidence: Evidence, summary: str, how: Remedy) -> Finding:
    return Finding((evidence,), summary, "error", 0.95, variety.at, remedies=(how,))


_LOOK = Remedy(
    "look at what the model is given",
    "x = next(iter(loader)); print(x.shape, x.std(0), len(torch.unique(x, dim=0))), just before the model is called",
    "certain",
)


def _constant(variety: Variety, evidence: Evidence) -> Finding:
    what = "All examples are the same" if variety.moving == 0 else "Only one number of an example ever varies"
    return _found(variety, evidence, f"{what}: there is nothing here that a VAE could learn to generate.", _LOOK)


def _repeated(variety: Variety, evidence: Evidence) -> Finding:
    summary = (
        f"{variety.commonest:.0%} of the examples shown are one and the same (blank or failed to load?): "
        "samples will mostly be that one."
    )
    return _found(variety, evidence, summary, _LOOK)


def _too_few(variety: Variety, evidence: Evidence) -> Finding:
    summary = (
        f"Training sees only about {variety.estimate:.0f} different examples, again and again: they are learnt by heart, "
        "and nothing is learnt about what lies between them."
    )
    return _found(variety, evidence, summary, _more(variety))


def _unseen(variety: Variety, evidence: Evidence) -> Finding:
    summary = (
        f"Of {variety.available} examples at hand, training sees the same {variety.estimate:.0f} again and again: "
        "the rest never reaches the model."
    )
    return _found(variety, evidence, summary, _more(variety))


def _more(variety: Variety) -> Remedy:
    if variety.available > 2 * variety.estimate:
        return Remedy(
            "draw a new batch each step",
            "take the batch inside the loop (for x in loader: ...), and pick rows from all of them: "
            "x = data[torch.randint(len(data), (64,))]",
            "certain",
        )
    return Remedy(
        "train on more examples", "gather more, or augment them; some hundreds are the least for small images"
    )
