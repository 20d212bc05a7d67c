"""A rule: a coded, documented, pure judgement over probes. Importing a module registers nothing."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, Literal

from whyvae.verdict import Verdict

# Families without which nobody can call a VAE healthy: what it minimises, how it is wired,
# what it puts out, what z is.
DECISIVE = ("OBJ", "WIR", "OUT", "POS")

EXACT = 10  # the stage of what is exact

# For `requires`: every cause of an earlier stage, whichever rules there are.
EARLIER = ("*",)


class Rule:
    """One-line docstring; `code`, `check`, `specimen`; and a page: the .md of the same name.

    `stage` is the order of repair: a smaller stage voids what larger ones measure.

        0 finite data · 10 certificates (`EXACT`) · 20 scale of the data · 21 evaluation mode (batch norm) · 22 scale of
        the two terms · 30 KL too heavy · 40 optimiser · 48 KL too light · 50 capacity · 60 generalisation ·
        70 how samples are drawn and shown · 80, 90 symptoms

    `requires`: where one of these codes is found, this rule is not run; EARLIER stands for every cause, of severity
    `warning` or above, of an earlier stage that does not explain this rule. `explains`: symptoms this cause accounts
    for, when both are found. `each_part`: where a loss has several likelihoods, each with an output of its own, they are
    judged one by one. `beside`: causes that stand beside this one on its own specimen, each with the reason.
    """

    code: ClassVar[str]
    kind: ClassVar[Literal["cause", "symptom"]] = "cause"
    stage: ClassVar[int]
    requires: ClassVar[tuple[str, ...]] = ()
    explains: ClassVar[tuple[str, ...]] = ()
    each_part: ClassVar[bool] = False
    beside: ClassVar[Mapping[str, str]] = {}
    decisive: ClassVar[bool | None] = None  # None: as its family
    check: ClassVar[Callable[..., Verdict]]
    specimen: ClassVar[Callable[[], Any]]

    @classmethod
    def name(cls) -> str:
        """Kebab-case of the class; consecutive capitals are one word: KLFormula -> kl-formula."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()

    @classmethod
    def decides(cls) -> bool:
        """Without this rule's answer there is no clean bill of health."""
        return cls.code.startswith(DECISIVE) if cls.decisive is None else cls.decisive


@cache
def all_rules() -> dict[str, type[Rule]]:
    """Every rule found by walking `whyvae.rules`, in the order of repair."""
    found: dict[str, type[Rule]] = {}
    for rule in sorted(_walk("whyvae.rules"), key=lambda rule: (rule.stage, rule.code)):
        if rule.code in found:
            raise ValueError(f"{rule.code} is claimed by {found[rule.code]} and by {rule}")
        found[rule.code] = rule
    return found


def _walk(package: str) -> Iterator[type[Rule]]:
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        for obj in vars(importlib.import_module(info.name)).values():
            if isinstance(obj, type) and issubclass(obj, Rule) and obj.__module__ == info.name:
                yield obj
