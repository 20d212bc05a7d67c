"""What can be changed, and how: by an injection at run time, by an edit of the source, or by both."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from whyvae.probe import debugging
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.injector import Injector

JSON = dict[str, Any]


class NoEdit(Exception):
    """There is no safe edit; the message says why. `snippet` is to be pasted, at `where` ("file:line")."""

    def __init__(self, reason: str, snippet: str = "", where: str = "") -> None:
        super().__init__(reason)
        self.snippet, self.where = snippet, where


@dataclass(frozen=True, slots=True)
class Treatment:
    """One change to try: plain data, which crosses processes. `settings` are the remedy's own, as JSON knows them."""

    remedy: str
    says: str  # what it changes, in one sentence
    codes: tuple[str, ...]  # the findings it answers
    safety: Safety
    settings: JSON

    def to_dict(self) -> JSON:
        return asdict(self)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        return cls(**{**entry, "codes": tuple(entry["codes"])})


class Remedy(ABC):
    """A change of one kind. `treats`: the codes of the findings it may answer; `source_form`: the module of
    `treat/edits/` that writes it, by default the one of its own name. `of_part`: of a loss of several likelihoods it can
    change one and leave the others, and the KL, as they are.
    """

    name: ClassVar[str]
    source_form: ClassVar[str] = ""
    treats: ClassVar[tuple[str, ...]]
    safety: ClassVar[Safety] = "retrain"
    of_part: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        """What to try against the finding `code` of this case, most promising first; nothing where it cannot help."""

    @classmethod
    def inject(cls, settings: JSON, injector: Injector) -> bool:
        """Sets the change up before the script runs; False: it has no form at run time."""
        return False

    @classmethod
    def edit(cls, case: Case, settings: JSON) -> dict[str, str]:
        """Path of each changed file -> its new text: what `treat/edits/` has for the remedy.

        Raises:
            NoEdit: no safe edit is known for this source.
        """
        module = f"whyvae.treat.edits.{cls.source_form or cls.name}"
        if importlib.util.find_spec(module) is None:
            raise NoEdit("this remedy has no source form")
        try:
            edited: dict[str, str] = importlib.import_module(module).edit(case, settings)
        except NoEdit:
            raise
        except Exception as error:
            if debugging():
                raise
            raise NoEdit(f"the edit failed ({error!r})") from error
        return edited

    @classmethod
    def treatment(cls, code: str, says: str, **settings: Any) -> Treatment:
        return Treatment(cls.name, says, (code,), cls.safety, settings)


@cache
def all_remedies() -> dict[str, type[Remedy]]:
    """Every remedy of `treat/remedies/` by its name."""
    from whyvae.treat import remedies

    found: dict[str, type[Remedy]] = {}
    for module in sorted(pkgutil.iter_modules(remedies.__path__), key=lambda m: m.name):
        loaded = importlib.import_module(f"{remedies.__name__}.{module.name}")
        for value in vars(loaded).values():
            if isinstance(value, type) and issubclass(value, Remedy) and value is not Remedy:
                found[value.name] = value
    return found


def by_promise() -> list[type[Remedy]]:
    """What changes least first; of equals what answers the fewest faults: it was made for the one at hand."""
    safest: tuple[Safety, ...] = ("certain", "retrain", "architecture")
    return sorted(all_remedies().values(), key=lambda r: (safest.index(r.safety), len(r.treats), r.name))


def proposals(case: Case) -> list[Treatment]:
    """What to try against the first cause of a case, most promising first: trials stop at the first that is enough."""
    cause = case.first_cause
    if cause is None:
        return []
    fitting = (r for r in by_promise() if cause.code in r.treats and (r.of_part or not case.part))
    return [t for r in fitting for t in r.proposals(case, cause.code)]
