"""What the decoder's output says about the data: log densities in nats, per example.

Each knows how many numbers it wants for every value (`per_value`); the decoder then puts out [b, per_value * C, ...] for
data [b, C, ...]. No gradient moves a noise variance: its optimum given the residual is known, and `calibrate` keeps it
there (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG_TWO_PI = math.log(2 * math.pi)
FLOOR = 1e-6  # of a variance: data that is reproduced exactly would make it 0
MOMENTUM = 0.02  # weight of the newest batch in the variance: an average over the last fifty

Mean = Callable[[Tensor], Tensor]  # over processes, where there are several


class Likelihood(nn.Module):
    """Shared shape: `output` [b, per_value * C, ...] and data `x` [b, C, ...]."""

    per_value = 1

    def nll(self, output: Tensor, x: Tensor) -> Tensor:
        """-log p(x | output) in nats, summed over an example, [b]."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """The expected data, [b, C, ...]."""
        return output

    def draw(self, output: Tensor) -> Tensor:
        """Data drawn, noise and all, [b, C, ...]."""
        raise NotImplementedError

    def calibrate(self, output: Tensor, x: Tensor, momentum: float = MOMENTUM, mean: Mean | None = None) -> None:
        """Moves what the residual fixes in closed form (variances) towards this batch; 1 replaces it."""


class Gaussian(Likelihood):
    """N(x; output, s) with one noise variance s for all values, or one for each feature."""

    def __init__(self, shape: Sequence[int] = (), variance: float = 1.0) -> None:
        super().__init__()
        self.variance = nn.Parameter(torch.full(tuple(shape), float(variance)), requires_grad=False)

    def nll(self, output: Tensor, x: Tensor) -> Tensor:
        each = (x - output) ** 2 / self.variance + self.variance.log() + LOG_TWO_PI
        return 0.5 * each.flatten(1).sum(1)

    def draw(self, output: Tensor) -> Tensor:
        return output + torch.randn_like(output) * self.variance.sqrt()

    @torch.no_grad()
    def calibrate(self, output: Tensor, x: Tensor, momentum: float = MOMENTUM, mean: Mean | None = None) -> None:
        squares = (x - output).float() ** 2
        found = squares.mean(0) if self.variance.dim() else squares.mean()
        found = found if mean is None else mean(found)
        self.variance.lerp_(found.clamp_min(FLOOR), momentum)


class Bernoulli(Likelihood):
    """Logits of values in [0, 1]; values between the ends are taken as probabilities."""

    def nll(self, output: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output, x, reduction="none").flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        return output.sigmoid()

    def draw(self, output: Tensor) -> Tensor:
        return torch.bernoulli(output.sigmoid())


class Categorical(Likelihood):
    """Whole numbers 0 .. levels - 1, given as x = number / (levels - 1)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.per_value = levels

    def _logits(self, output: Tensor) -> Tensor:
        """[b, levels * C, ...] -> [b, levels, C, ...]."""
        return output.reshape(output.shape[0], self.per_value, -1, *output.shape[2:])

    def nll(self, output: Tensor, x: Tensor) -> Tensor:
        number = (x * (self.per_value - 1)).round().long()
        return F.cross_entropy(self._logits(output), number, reduction="none").flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        return self._logits(output).argmax(1) / (self.per_value - 1)

    def draw(self, output: Tensor) -> Tensor:
        logits = self._logits(output)
        noise = -(-torch.rand_like(logits).clamp_min(1e-20).log()).log()  # Gumbel: the largest is a draw
        return (logits + noise).argmax(1) / (self.per_value - 1)


class LogisticMixture(Likelihood):
    """8-bit values as x = number / 255 under a mixture of logistic densities, integrated over each number's bin.

    Salimans et al. 2017 (PixelCNN++), without its dependence of a colour on those before.
    """

    BINS = 256

    def __init__(self, components: int = 5) -> None:
        super().__init__()
        self.components, self.per_value = components, 3 * components

    def _parts(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means, log scales, each [b, components, C, ...]; at output 0 the means spread over [0, 1]."""
        made = output.reshape(output.shape[0], 3, self.components, -1, *output.shape[2:])
        places = torch.linspace(0, 1, self.components + 2, device=output.device, dtype=output.dtype)[1:-1]
        means = made[:, 1] + places.reshape(-1, *[1] * (made.dim() - 3))
        return made[:, 0].log_softmax(1), means, (made[:, 2] - 2).clamp_min(-7)

    def nll(self, output: Tensor, x: Tensor) -> Tensor:
        weight, mean, log_scale = self._parts(output)
        x = x[:, None]  # [b, 1, C, ...]
        half, inverse = 0.5 / (self.BINS - 1), (-log_scale).exp()
        above, below = (x - mean + half) * inverse, (x - mean - half) * inverse
        inside = (above.sigmoid() - below.sigmoid()).clamp_min(1e-10).log()
        first, last = above - F.softplus(above), -F.softplus(below)  # the outer bins reach to infinity
        each = torch.where(x < half, first, torch.where(x > 1 - half, last, inside))
        return -(weight + each).logsumexp(1).flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        weight, mean, _ = self._parts(output)
        return (weight.exp() * mean).sum(1).clamp(0, 1)

    def draw(self, output: Tensor) -> Tensor:
        weight, mean, log_scale = self._parts(output)
        noise = -(-torch.rand_like(weight).clamp_min(1e-20).log()).log()
        which = (weight + noise).argmax(1, keepdim=True)
        centre, scale = mean.gather(1, which)[:, 0], log_scale.gather(1, which)[:, 0].exp()
        u = torch.rand_like(centre).clamp(1e-5, 1 - 1e-5)
        drawn = (centre + scale * (u.log() - (-u).log1p())).clamp(0, 1)
        return (drawn * (self.BINS - 1)).round() / (self.BINS - 1)
