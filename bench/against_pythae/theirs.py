"""pythae's VAE: trained by its own pipeline, and seen as a `whyvae.models.vae.VAE`, so that one estimator serves both.

Its loss, read in `pythae/models/vae/vae_model.py` (0.1.2): `0.5 * mse_loss(reduction="none").sum(-1) + KL`, so N(x;
output, 1) up to a constant, which its own `get_nll` adds as for a variance of 1; `bce` is the Bernoulli of an output
that went through a sigmoid. The default decoder ends in a sigmoid with both.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whyvae.models.likelihoods import Bernoulli, Gaussian
from whyvae.models.priors import Standard
from whyvae.models.vae import VAE

INSTALL = "pip install --no-deps pythae pydantic pydantic-core annotated-types typing-inspection imageio cloudpickle"
Loss = Literal["mse", "bce"]


def needed() -> Any:
    """The package, with its logs and bars off: they cost time. Exits with what to install."""
    try:
        import pythae.models
        import pythae.pipelines
        import pythae.trainers.base_trainer.base_trainer as trainer
    except ImportError as error:
        sys.exit(f"this bench compares with pythae, which is not here ({error}): {INSTALL}")
    logging.disable(logging.CRITICAL)
    trainer.ProgressBarCallback = trainer.TrainingCallback
    return pythae


class _Encoder(nn.Module):
    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        self.theirs = theirs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made = self.theirs(x)
        return made.embedding, made.log_covariance


class _Decoder(nn.Module):
    """`logits`: what the sigmoid made of them is undone, for a likelihood that wants logits."""

    def __init__(self, theirs: nn.Module, *, logits: bool) -> None:
        super().__init__()
        self.theirs, self.logits = theirs, logits

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.theirs(z).reconstruction
        return made.clamp(1e-7, 1 - 1e-7).logit() if self.logits else made


def trained(rows: Tensor, held_out: Tensor, loss: Loss, seed: int) -> VAE:
    """Rows [n, *shape], as they are. All else is pythae's default: 512 units, 10 latents, Adam 1e-4, batches of 64,
    100 epochs; the best epoch on `held_out` is kept.
    """
    pythae = needed()
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = pythae.models.VAE(pythae.models.VAEConfig(input_dim=tuple(rows.shape[1:]), reconstruction_loss=loss))
        config = pythae.trainers.BaseTrainerConfig(output_dir=folder, seed=seed)
        pipeline = pythae.pipelines.TrainingPipeline(model, config)
        pipeline(rows, held_out)
    best = pipeline.trainer._best_model.eval().cpu()  # noqa: SLF001 - else it stands in a file only
    likelihood = Bernoulli() if loss == "bce" else Gaussian((), 1.0)
    return VAE(
        _Encoder(best.encoder), _Decoder(best.decoder, logits=loss == "bce"), likelihood, Standard(best.latent_dim)
    )
