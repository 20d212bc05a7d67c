"""From a configuration and the data's facts to a model: what was left open is chosen here, each choice with its reason."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from whyvae.data import Codec, Dataset
from whyvae.models import conv, mlp, sequence
from whyvae.models.likelihoods import FLOOR, Bernoulli, Categorical, Gaussian, Likelihood, LogisticMixture
from whyvae.models.priors import Mixture, Prior, Standard, VampPrior
from whyvae.models.table import Mixed
from whyvae.models.vae import VAE

Family = Literal["auto", "mlp", "linear", "conv", "sequence", "recurrent"]
Noise = Literal["auto", "gaussian", "gaussian-per-feature", "bernoulli", "categorical", "logistic-mixture", "mixed"]
PriorName = Literal["standard", "mixture", "vamp"]
RANGED = {"bernoulli", "categorical", "logistic-mixture"}  # likelihoods of values in [0, 1]
FEW_PIXELS = 1024  # colours counted apart; up to here every hidden unit may see them all
AT_THE_ENDS = (
    0.75  # of the variance that 0-1 values of the same mean have: below it, values lie between the ends too often
)


class Unfit(ValueError):
    """A choice that does not fit the data; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """`widths`: of hidden layers, or channels at each size of convolutions; empty: by family."""

    family: Family = "auto"
    latents: int = 0  # 0: by the number of values
    widths: tuple[int, ...] = ()
    blocks: int = 0  # residual blocks at each size of an image
    likelihood: Noise = "auto"
    prior: PriorName = "standard"
    components: int = 32  # of a learned prior
    levels: int = 0  # of categorical values; 0: from the data

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> ModelConfig:
        return cls(**{**held, "widths": tuple(held["widths"])})


def resolved(config: ModelConfig, data: Dataset) -> ModelConfig:
    """No choice left open.

    Raises:
        Unfit: a family or likelihood that does not fit the data.
    """
    family = config.family if config.family != "auto" else _family(data)
    noise = config.likelihood if config.likelihood != "auto" else _noise(data)
    wanted = {"conv": "image", "sequence": "sequence", "recurrent": "sequence"}.get(family)
    if wanted not in {None, data.kind}:
        raise Unfit(f"family {family} is for {wanted}s; {data.source} holds {data.kind}s")
    if (noise == "mixed") != (data.kind == "table"):
        only = "mixed" if data.kind == "table" else "any but mixed"
        raise Unfit(f"likelihood {noise} does not fit a {data.kind}: use {only}")
    bounded = data.kind in {"image", "vector"}
    whole = bounded and data.summary.whole
    if noise in RANGED and not (bounded if noise == "bernoulli" else whole):
        what = "a range" if noise == "bernoulli" else "whole numbers in a range"
        raise Unfit(f"likelihood {noise} is for images or vectors of {what}; {data.source} holds {data.kind}s without")
    levels = round(float(data.summary.high.max() - data.summary.low.min())) + 1 if noise == "categorical" else 0
    widths = config.widths or {"conv": (16, 32, 64), "sequence": (32, 64, 64), "recurrent": (128,), "linear": ()}.get(
        family, (512, 256)
    )
    latents = config.latents or _latents(data)
    return replace(
        config, family=family, likelihood=noise, latents=latents, widths=widths, levels=config.levels or levels
    )


def _family(data: Dataset) -> Family:
    """Convolutions pay on large images. On MNIST a fully connected network reaches the same ELBO in less time on a CPU."""
    if data.kind == "image" and math.prod(data.shape) > FEW_PIXELS and min(data.shape[1:]) >= 8:
        return "conv"
    return "sequence" if data.kind == "sequence" else "mlp"


def _noise(data: Dataset) -> Noise:
    """Values that lie mostly at the ends of their range are Bernoulli's, others Gaussian."""
    if data.kind == "table":
        return "mixed"
    return "bernoulli" if data.kind in {"image", "vector"} and ends(data) > AT_THE_ENDS else "gaussian"


def ends(data: Dataset) -> float:
    """Variance over that of 0-1 values of the same mean: 1 where all values lie at the ends of the range."""
    s = data.summary
    low, high = float(s.low.min()), float(s.high.max())
    mean = (float(s.mean.mean()) - low) / (high - low)
    square = float(((s.std**2 + (s.mean - low) ** 2) / (high - low) ** 2).mean())
    return (square - mean**2) / (mean * (1 - mean))


def _latents(data: Dataset) -> int:
    """Two for three columns, 8 for 64 values, 16 from 512 on: spare units stay at the prior and cost nothing but time."""
    values = math.prod(data.shape)
    return int(np.clip(round(math.sqrt(values)), min(2, values), 16)) if values > 3 else min(2, values)


def build(config: ModelConfig, codec: Codec, examples: Tensor) -> VAE:
    """`config` as `resolved` returns it; `examples` [k, *model_shape] start variances and the VampPrior."""
    shape = codec.model_shape
    noise = _likelihood(config, codec, examples)
    wanted = (shape[0] * noise.per_value, *shape[1:])
    encoder, decoder = _networks(config, shape, wanted)
    model = VAE(encoder, decoder, noise, Standard(config.latents))
    model.prior = _prior(config, model, examples)
    return model


def _likelihood(config: ModelConfig, codec: Codec, examples: Tensor) -> Likelihood:
    shape, variance = codec.model_shape, max(FLOOR, float(examples.var(0, correction=0).mean()))
    match config.likelihood:
        case "bernoulli":
            return Bernoulli()
        case "categorical":
            return Categorical(config.levels)
        case "logistic-mixture":
            return LogisticMixture()
        case "mixed":
            return Mixed([c.kind for c in codec.columns], codec.widths)
        case "gaussian-per-feature":
            return Gaussian(shape, variance)
    return Gaussian((), variance)


def _networks(config: ModelConfig, shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    k, widths = config.latents, config.widths
    match config.family:
        case "conv":
            return conv.Encoder(shape, k, widths, config.blocks), conv.Decoder(wanted, k, widths, config.blocks)
        case "sequence":
            return sequence.Encoder(shape, k, widths), sequence.Decoder(wanted, k, widths)
        case "recurrent":
            return sequence.RecurrentEncoder(shape, k, widths[0]), sequence.RecurrentDecoder(wanted, k, widths[0])
        case "linear":
            return mlp.LinearEncoder(shape, k), mlp.Decoder(wanted, k, ())
    return mlp.Encoder(shape, k, widths), mlp.Decoder(wanted, k, widths)


def _prior(config: ModelConfig, model: VAE, examples: Tensor) -> Prior:
    if config.prior == "mixture":
        return Mixture(config.latents, config.components)
    if config.prior == "vamp":
        return VampPrior(examples[: config.components], model.encode)
    return Standard(config.latents)
