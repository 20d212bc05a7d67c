"""Where z comes from when something new is generated: N(0, I), or a mixture learned along."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

LOG_TWO_PI = math.log(2 * math.pi)
Heads = Callable[[Tensor], tuple[Tensor, Tensor]]  # x -> mean and log variance of q(z|x)


class Prior(nn.Module):
    """`kl` compares the posterior N(mu, exp(logvar)) [b, units], of which z is a draw, with it; in nats, [b]."""

    def kl(self, mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
        """One draw: log q(z|x) - log p(z). Unbiased, whatever the prior."""
        return log_normal(z, mu, logvar) - self.log_prob(z)

    def log_prob(self, z: Tensor) -> Tensor:
        """[b, units] -> [b]."""
        raise NotImplementedError

    def draw(self, n: int) -> Tensor:
        """[n, units]."""
        raise NotImplementedError


class Standard(Prior):
    """N(0, I), and its KL in closed form."""

    where: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.latents = latents
        self.register_buffer("where", torch.zeros(()), persistent=False)  # its device is the model's

    def kl(self, mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:  # noqa: ARG002 - no draw is needed here
        return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z**2 + LOG_TWO_PI).sum(1)

    def draw(self, n: int) -> Tensor:
        return torch.randn(n, self.latents, device=self.where.device)


class Mixture(Prior):
    """`components` Gaussians with learned weights, means and variances."""

    def __init__(self, latents: int, components: int = 32) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latents))
        self.logvars = nn.Parameter(torch.zeros(components, latents))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights [k], means and log variances [k, units]."""
        return self.weights.log_softmax(0), self.means, self.logvars

    def log_prob(self, z: Tensor) -> Tensor:
        weights, means, logvars = self._parts()
        each = log_normal(z[:, None], means, logvars)  # [b, k]
        return (each + weights).logsumexp(1)

    def draw(self, n: int) -> Tensor:
        weights, means, logvars = self._parts()
        which = torch.multinomial(weights.exp(), n, replacement=True)
        return means[which] + torch.randn_like(means[which]) * (0.5 * logvars[which]).exp()


class VampPrior(Mixture):
    """The mixture of the posteriors of learned pseudo-examples (Tomczak & Welling 2018), [components, *shape]."""

    def __init__(self, examples: Tensor, heads: Heads) -> None:
        Prior.__init__(self)
        self.weights = nn.Parameter(torch.zeros(len(examples)))
        self.examples = nn.Parameter(examples.clone())
        self._heads = [heads]  # in a list, so that the encoder's weights are not counted twice

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.weights.log_softmax(0), *self._heads[0](self.examples)


def log_normal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log N(z; mu, exp(logvar)), summed over the last axis."""
    return -0.5 * ((z - mu) ** 2 * (-logvar).exp() + logvar + LOG_TWO_PI).sum(-1)
