"""`whyvae.VAE`: a VAE with the manners of scikit-learn, for its pipelines, searches and cross-validation."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from whyvae.data import Dataset
from whyvae.data.raw import Raw
from whyvae.models.build import ModelConfig
from whyvae.train import train
from whyvae.training.run import TrainConfig


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc] # sklearn is untyped
    """Variational autoencoder of rows [n, features]; binary columns are known by their values.

    Parameters: `n_components` latent units; `widths` of the hidden layers; `likelihood` as `whyvae train` names it;
    `steps` of the optimiser (0: by the number of rows); `random_state` as everywhere in scikit-learn.

    Attributes: `model_` the torch module; `trained_` the whole run; `n_features_in_`.
    """

    def __init__(
        self, n_components: int = 2, *, widths: tuple[int, ...] = (512, 256), likelihood: str = "auto", steps: int = 0,
        batch: int = 128, lr: float = 2e-3, kl_weight: float = 1.0, device: str = "auto", random_state: Any = None,
    ) -> None:  # fmt: skip
        self.n_components = n_components
        self.widths = widths
        self.likelihood = likelihood
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.kl_weight = kl_weight
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002, N803 - scikit-learn's names
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)  # noqa: N806
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        model = ModelConfig(latents=self.n_components, widths=tuple(self.widths), likelihood=self.likelihood)  # type: ignore[arg-type]
        options = {name: getattr(self, name) for name in ("steps", "batch", "lr", "kl_weight", "device")}
        settings = TrainConfig(**options, seed=seed)
        self.trained_ = train(Dataset.unchecked(Raw(X), "X"), model, settings)
        # float64: rows transformed one by one and together give the same numbers
        self.model_ = self.trained_.model.cpu().double()
        self._n_features_out = self.n_components
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """Posterior means, [n, n_components]."""
        rows, dtype = self._rows(X)
        with torch.no_grad():
            return self.model_.encode(rows)[0].numpy().astype(dtype)

    def inverse_transform(self, Z: Any) -> Any:  # noqa: N803
        """Expected rows for latents [n, n_components], [n, n_features_in_]."""
        check_is_fitted(self)
        z = np.asarray(Z)
        with torch.no_grad():
            made = self.model_.likelihood.mean(self.model_.decode(torch.from_numpy(z.astype(np.float64))))
        return self.trained_.codec.decode(made).numpy().astype(z.dtype if z.dtype.kind == "f" else np.float64)

    def sample(self, n_samples: int = 1) -> Any:
        """New rows, [n_samples, n_features_in_]; the same at each call where `random_state` is a number."""
        check_is_fitted(self)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            output = self.model_.decode(self.model_.prior.draw(n_samples).double())
            table = self.trained_.codec.kind == "table"
            made = self.model_.likelihood.draw(output) if table else self.model_.likelihood.mean(output)
        return self.trained_.codec.decode(made).numpy()

    def score_samples(self, X: Any) -> Any:  # noqa: N803
        """ELBO of each row in nats, in the unit of the data, [n]: a lower bound of its log density."""
        rows, _ = self._rows(X)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)  # a score is a number, not a draw
            noise = torch.randn(8, 1, self.n_components, dtype=torch.float64)
            mu, logvar = self.model_.encode(rows)
            nll = torch.zeros(len(rows), dtype=torch.float64)
            for eps in noise:
                nll += self.model_.likelihood.nll(self.model_.decode(mu + eps * (0.5 * logvar).exp()), rows) / len(
                    noise
                )
            kl = self.model_.prior.kl(mu, logvar, mu)
        return (-(nll + kl)).numpy() - self.trained_.codec.nats

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002, N803
        """Mean of `score_samples`; larger is better."""
        return float(np.mean(self.score_samples(X)))

    def _rows(self, X: Any) -> tuple[Any, Any]:  # noqa: N803
        """In the model's unit, and the type they came in."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)  # noqa: N806
        return self.trained_.codec.encode(torch.from_numpy(np.array(X, np.float64))), X.dtype
