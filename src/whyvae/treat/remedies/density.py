"""Latents drawn from a Gaussian mixture fitted to the encodings: no retraining (Ghosh et al. 2020, ICLR)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from whyvae.probes.objective import Objective
from whyvae.treat.remedy import NoEdit, Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = """\
from sklearn.mixture import GaussianMixture

with torch.no_grad():
    mu = torch.cat([encode(x)[0] for x in batches])  # your encoder's mean, of all training examples
mixture = GaussianMixture(10, reg_covar=1e-4, random_state=0).fit(mu.numpy())
z = torch.tensor(mixture.sample(64)[0], dtype=torch.float32)
samples = decode(z)  # your decoder
"""


class Density(Remedy):
    name = "density"
    treats = ("GEN01", "GEN02", "OBJ03")
    safety: ClassVar[Safety] = "certain"

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        objective = case.get(Objective)
        if code == "GEN02" and not (objective is not None and objective.prior_is_learned):
            return  # draws of N(0, 1) do
        says = "draws latents from a Gaussian mixture fitted to the encodings; nothing is retrained"
        yield cls.treatment(code, says, sampler="Gaussian mixture")

    @classmethod
    def edit(cls, case: Case, settings: dict[str, Any]) -> dict[str, str]:
        raise NoEdit("it changes how you sample, not how you train", SNIPPET)
