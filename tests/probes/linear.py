"""The linear VAE: its optimum, and what probes must say of it in closed form.

Data have the wanted covariance exactly, and a linear model's averages depend on nothing else.
"""

from dataclasses import dataclass

import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.watch.direct import BATCH, watch_model

ROWS = 12 * BATCH  # all that `watch_model` takes
EIGENVALUES = (8.0, 4.0, 2.0, 1.0, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05)
UNBIASED = ROWS / (ROWS - 1)  # sample covariances divide by n - 1, averages by n


def rotation(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q.contiguous()


def rows_of(covariance, n=ROWS, seed=0):
    """A Gaussian sample moved to mean 0 and this very covariance (of n, not n - 1), [n, D]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, len(covariance), generator=generator, dtype=torch.float64)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / n), x.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T


class LinearVAE(nn.Module):
    """z = A x + b + sqrt(T) eps; x = W z + c, in float64."""

    def __init__(self, features, latents):
        super().__init__()
        self.mu = nn.Linear(features, latents)
        self.logvar = nn.Linear(features, latents)
        self.decoder = nn.Linear(latents, features)
        self.double()
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x):
        mu, logvar = self.mu(x), self.logvar(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


@dataclass
class Linear:
    """W [D, d], A [d, D], T [d] at noise variance s on data of covariance C."""

    W: torch.Tensor
    A: torch.Tensor
    T: torch.Tensor
    C: torch.Tensor
    s: float

    @classmethod
    def optimum(cls, s, latents, eigenvalues=EIGENVALUES, turn=None):
        """The loss's global optimum for these eigenvalues; `turn` [d, d] rotates the latents."""
        values = torch.tensor(eigenvalues, dtype=torch.float64)
        vectors = rotation(len(values))
        used = (values[:latents] - s).clamp_min(0).sqrt()
        decoder = vectors[:, :latents] * used
        model = cls(
            decoder, (decoder / values[:latents]).T, (s / values[:latents]).clamp_max(1.0),
            vectors * values @ vectors.T, s,
        )  # fmt: skip
        if turn is not None:
            model.W = decoder @ turn
            model.A, model.T = model.best()
        return model

    def best(self):
        """(A, T) of the best factorised posterior for this decoder"""
        precision = torch.eye(self.W.shape[1], dtype=torch.float64) + self.W.T @ self.W / self.s
        return torch.linalg.solve(precision, self.W.T) / self.s, 1 / precision.diagonal()

    @property
    def sse(self):
        inside = self.A @ self.C @ self.A.T + self.T.diag()
        outside = self.C - 2 * self.W @ self.A @ self.C
        return float(outside.trace() + (self.W @ inside @ self.W.T).trace())

    @property
    def kl(self):
        """Per unit [d]."""
        power = (self.A @ self.C @ self.A.T).diagonal()
        return 0.5 * (power + self.T - self.T.log() - 1)

    @property
    def gap(self):
        """Nats that the best posteriors gain at calibrated variance: `Amortisation.gap`."""
        ideal = Linear(self.W, *self.best(), self.C, self.s)
        gained = torch.tensor(self.sse / ideal.sse).log() * len(self.C) / 2
        return float(gained - (ideal.kl.sum() - self.kl.sum()))

    @property
    def gap_at_s(self):
        """The same in the user's own objective: `Amortisation.own`."""
        ideal = Linear(self.W, *self.best(), self.C, self.s)
        return (self.sse - ideal.sse) / (2 * self.s) + float(self.kl.sum() - ideal.kl.sum())

    def model(self, model=None):
        model = model or LinearVAE(*self.W.shape)
        with torch.no_grad():
            model.mu.weight.copy_(self.A)
            model.logvar.bias.copy_(self.T.log())
            model.decoder.weight.copy_(self.W)
        return model

    def loss(self, model, x):
        output, mu, logvar = model(x)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return ((output - x).square().sum() / (2 * self.s) + kl) / len(x)

    def bench(self, rows=ROWS):
        """Ready to measure this very model on data of this very covariance."""
        return Bench(watch_model(self.model(), rows_of(self.C, rows), self.loss))
