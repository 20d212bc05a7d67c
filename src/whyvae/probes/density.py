"""A density of where encodings lie: a Gaussian mixture whose size unseen encodings choose."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SIZES = (1, 2, 4, 8, 16, 32)
PER_COMPONENT = 4  # encodings a latent unit and component that a full covariance needs
MOST = 1024  # encodings
FOLLOWED = 2  # sizes in a row that may fail to improve


@dataclass(frozen=True)
class Density:
    """`components` Gaussians; `nats` is the mean log density of unseen encodings, that of one Gaussian is `nats_of_one`."""

    mixture: Any  # sklearn's GaussianMixture, in units of `spread` around `centre`
    centre: Tensor
    spread: Tensor
    nats: float
    nats_of_one: float

    @property
    def components(self) -> int:
        return int(self.mixture.n_components)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws, [n, units]; `sample` of sklearn would redraw the same for every n."""
        which = torch.multinomial(torch.as_tensor(self.mixture.weights_), n, replacement=True, generator=generator)
        means, covariances = torch.as_tensor(self.mixture.means_), torch.as_tensor(self.mixture.covariances_)
        noise = torch.randn(n, means.shape[1], generator=generator, dtype=torch.float64)
        for k in which.unique().tolist():
            mine, covariance = which == k, covariances[k]
            full = covariance.dim() == 2
            noise[mine] = noise[mine] @ torch.linalg.cholesky(covariance).T if full else noise[mine] * covariance.sqrt()
        return (means[which] + noise) * self.spread + self.centre

    def log(self, z: Tensor) -> Tensor:
        """Log density of rows [n, units] in nats, [n]."""
        found = torch.as_tensor(self.mixture.score_samples(((z - self.centre) / self.spread).numpy()))
        return found - self.spread.log().sum()


def density(fit: Tensor, unseen: Tensor) -> Density:
    """The mixture of encodings `fit` [n, units] under which `unseen` [m, units] are likeliest.

    Full covariances where there are enough encodings, diagonal ones always; the number of components grows while it
    helps. Global random streams are left alone.
    """
    fit, unseen = fit[:MOST], unseen[: 4 * MOST]
    centre, spread = fit.mean(0), fit.std(0).clamp_min(1e-12)
    rows, others = ((fit - centre) / spread).numpy(), ((unseen - centre) / spread).numpy()
    shift = float(spread.log().sum())
    found: list[tuple[float, Any]] = []
    ones = []
    for shape in ("full", "diag"):
        tried = [(float(m.score(others)) - shift, m) for m in _growing(rows, others, shape)]
        found += tried
        ones += [nats for nats, m in tried if m.n_components == 1]
    nats, best = max(found, key=lambda pair: pair[0])
    return Density(best, centre, spread, nats, max(ones))


def _growing(rows: Any, others: Any, shape: str) -> list[Any]:
    from sklearn.mixture import GaussianMixture

    n, units = rows.shape
    most = n // (PER_COMPONENT * (units if shape == "full" else 2))
    made, best, since = [], -float("inf"), 0
    for size in (s for s in SIZES if s <= most or (s == 1 and shape == "diag")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged: then another size is likelier
            made.append(
                GaussianMixture(size, covariance_type=shape, max_iter=60, reg_covar=1e-6, random_state=0).fit(rows)
            )
        nats = made[-1].score(others)
        best, since = (nats, 0) if nats > best else (best, since + 1)
        if since == FOLLOWED:
            break
    return made
