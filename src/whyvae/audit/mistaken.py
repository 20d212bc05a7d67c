"""The wrong formulas people write for the KL, each told by its gradient."""

from __future__ import annotations

from torch import Tensor

from whyvae.audit.covariance import REVERSED, formulas
from whyvae.audit.cut import gradient
from whyvae.audit.solve import least_squares, positive

SIGN = "its sign is wrong: training pushes the posterior away from the prior"
NO_LOG = "the log-variance term is missing: nothing keeps sigma from shrinking to 0"
LOG_SIGN = "the log-variance term has the wrong sign"
_ALONE = "so that the posterior of one example may lie anywhere"
_MEAN = f"mu is averaged over the batch before it is squared, {_ALONE}"
_HEADS = f"mu and log-variance are averaged over the batch before they enter, {_ALONE}"
_NORMAL = f"it is that of the batch's mean mu and mean sigma, {_ALONE}"
AVERAGED = {_MEAN, _HEADS, _NORMAL}  # mistakes that make the pull on one example depend on the others


def mistaken(
    mu: Tensor, sigma: Tensor, heads: list[Tensor], direct: Tensor, factor: Tensor | None = None
) -> tuple[str, float, float]:
    """(name, weight, residual) of the wrong formula that comes nearest to the gradient `direct` at the heads; its weight is
    that of a sum over [batch, ...].
    """
    known = _formulas(mu, sigma) if factor is None else formulas(mu, factor)
    scores = {name: least_squares(gradient(f.sum(), heads)[:, None], direct) for name, f in known.items()}
    name = min(scores, key=lambda n: scores[n][1])
    weight, residual = scores[name]
    return name, float(weight[0]), residual


def _formulas(mu: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    s = positive(sigma)
    log_s = s.log()
    formulas = {
        REVERSED: 0.5 * ((1 + mu**2) / s**2 + 2 * log_s),
        "what scales the noise is what the formula takes for log-variance": 0.5 * (mu**2 + sigma.exp() - 1 - sigma),
        "log sigma is passed where the formula expects log-variance": 0.5 * (mu**2 + s - 1 - log_s),
        "log-variance is passed where the formula expects sigma":
            0.5 * (mu**2 + (2 * log_s) ** 2) - (2 * log_s).abs().clamp_min(1e-9).log(),
        "the variance is passed where the formula expects sigma": 0.5 * (mu**2 + s**4) - 2 * log_s,
        "exp(log-variance) is squared": 0.5 * (mu**2 + s**4 - 1 - 2 * log_s),
        "log-variance is used as sigma's logarithm in the KL and halved in sampling, or the reverse":
            0.5 * (mu**2 + s**4 - 1 - 4 * log_s),
        "sigma stands where the variance belongs": 0.5 * (mu**2 + s - 1 - 2 * log_s),
        "only mu is penalised: sigma is free": mu**2 / 2,
    }  # fmt: skip
    return formulas | _of_means(mu, s) if mu.dim() > 1 and s.shape == mu.shape else formulas


def _of_means(mu: Tensor, s: Tensor) -> dict[str, Tensor]:
    """Those in which the batch is averaged too early, each as a sum over [batch, ...]."""
    mean, log_s = mu.mean(0, keepdim=True).expand_as(mu), s.log()
    of_heads, of_normal = log_s.mean(0, keepdim=True), s.mean(0, keepdim=True)
    return {
        _MEAN: 0.5 * (mean**2 + s**2 - 1) - log_s,
        _HEADS: 0.5 * (mean**2 + (2 * of_heads).exp() - 1) - of_heads,
        _NORMAL: 0.5 * (mean**2 + of_normal**2 - 1) - of_normal.log(),
    }
