"""A small VAE with replaceable parts, trained in a second: the patient of specimens and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

NOISE = 0.1  # standard deviation of the noise in `factors`
Parts = Callable[..., Tensor]


def factors(n: int = 768, features: int = 12, latents: int = 3, seed: int = 0) -> Tensor:
    """Data of known structure: `latents` Gaussian factors, bent, mixed into `features`, and noise. [n, features]"""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, latents, generator=generator)
    mix = torch.randn(2 * latents, features, generator=generator) / latents**0.5
    x = torch.cat([torch.tanh(1.5 * z), 0.5 * z], 1) @ mix
    noisy: Tensor = x + NOISE * torch.randn(n, features, generator=generator)
    return noisy


def digits() -> Tensor:
    """scikit-learn's handwritten digits in [0, 1], [1797, 64]."""
    from sklearn.datasets import load_digits

    rows: Tensor = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    return rows


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def squared_error(output: Tensor, x: Tensor) -> Tensor:
    """-log N(x; output, NOISE^2) up to a constant, summed."""
    return (output - x).pow(2).sum() / (2 * NOISE**2)


def elbo(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (squared_error(output, x) + kl(mu, logvar)) / x.shape[0]


def fitting(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The ELBO at a noise variance that fits what a code of six numbers leaves of digits."""
    return ((output - x).pow(2).sum() / (2 * 0.02) + kl(mu, logvar)) / x.shape[0]


def reparametrise(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)


def unchanged(x: Tensor) -> Tensor:
    return x


def both_unchanged(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return mu, logvar


class Model(nn.Module):
    """Encoder, heads, decoder; `hidden` and `decoder_hidden` are widths; `norm` makes a layer of a width."""

    def __init__(
        self, features: int, latents: int, hidden: int, decoder_hidden: int, norm: Callable[[int], nn.Module],
        activation: Callable[[], nn.Module],
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(features, hidden), norm(hidden), activation())
        self.mu = nn.Linear(hidden, latents)
        self.logvar = nn.Linear(hidden, latents)
        self.decoder = nn.Sequential(
            nn.Linear(latents, decoder_hidden), norm(decoder_hidden), activation(), nn.Linear(decoder_hidden, features)
        )


def from_latent(model: Model, z: Tensor, hidden: Tensor) -> Tensor:
    output: Tensor = model.decoder(z)
    return output


def from_prior(model: Model) -> None:
    """New samples, as they should be made."""
    model.eval()
    with torch.no_grad():
        model.decoder(torch.randn(16, model.mu.out_features))


@dataclass
class Patient:
    """One training run. Replace a part to make it ill; `train()` returns what a watcher saw of it."""

    data: Tensor = field(default_factory=factors)
    latents: int = 4
    hidden: int = 64
    decoder_hidden: int = 64
    steps: int = 900
    batch: int = 64
    lr: float = 3e-3
    seed: int = 0
    between: Callable[[Tensor], Tensor] = unchanged  # what is done to the encoder's hidden values
    norm: Callable[[int], nn.Module] = nn.Identity  # of the hidden layers, from their width
    activation: Callable[[], nn.Module] = nn.Tanh  # of the hidden layers
    heads: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = both_unchanged
    sample: Callable[[Tensor, Tensor], Tensor] = reparametrise
    decode: Callable[[Model, Tensor, Tensor], Tensor] = from_latent  # (model, z, encoder's hidden values)
    output: Callable[[Tensor], Tensor] = unchanged
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = elbo
    target: Callable[[Tensor, Tensor], Tensor] | None = None  # (whole data, indices of the batch)
    zero_grad: bool = True
    generate: Callable[[Model], object] = from_prior  # at the end of the run
    optimised: Callable[[Model], list[nn.Parameter]] = lambda model: list(model.parameters())

    def train(self) -> Subject:
        with torch.random.fork_rng(), Watcher() as watcher:
            torch.manual_seed(self.seed)
            self._train()
        return Subject.of(watcher)

    def _train(self) -> None:
        n, features = self.data.shape
        model = Model(features, self.latents, self.hidden, self.decoder_hidden, self.norm, self.activation)
        optimizer = torch.optim.Adam(self.optimised(model), lr=self.lr)
        held = n // 4
        for step in range(self.steps):
            rows = held + torch.randperm(n - held)[: self.batch]
            x = self.data[rows]
            if self.zero_grad:
                optimizer.zero_grad()
            loss = self._loss(model, x, x if self.target is None else self.target(self.data, rows))
            loss.backward()
            optimizer.step()
            if step % 100 == 99:
                model.eval()
                with torch.no_grad():
                    self._loss(model, self.data[:held], self.data[:held])
                model.train()
        self.generate(model)

    def _loss(self, model: Model, x: Tensor, target: Tensor) -> Tensor:
        h = self.between(model.encoder(x))
        mu, logvar = self.heads(model.mu(h), model.logvar(h))
        output = self.output(self.decode(model, self.sample(mu, logvar), h))
        return self.loss(output, target, mu, logvar)
