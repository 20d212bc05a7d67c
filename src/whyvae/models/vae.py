"""A variational autoencoder: encoder, noise, decoder, likelihood, prior (Kingma & Welling 2014)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whyvae.models.likelihoods import Likelihood
from whyvae.models.priors import Prior


class VAE(nn.Module):
    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, prior: Prior) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.likelihood, self.prior = likelihood, prior

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [b, *shape] -> mean and log variance of q(z|x), [b, latents] each."""
        mu, logvar = self.encoder(x)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """z [b, latents] -> the likelihood's parameters [b, per_value * C, ...]."""
        output: Tensor = self.decoder(z)
        return output

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-log p(x|z) and KL(q(z|x) || p(z)), both in nats and [b], and what the decoder put out."""
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        output = self.decode(z)
        return self.likelihood.nll(output, x), self.prior.kl(mu, logvar, z), output
