"""Healthy bases of the bank, and harmless twists: ways of doing it that are unusual and right."""

from __future__ import annotations

from collections.abc import Callable

from bench.bank.faults import SAVED, gaussian, gaussian_image, image, multilayer, with_dropout
from bench.bank.program import SQUARES, Base, Program

# A Bernoulli likelihood on 64 grey pixels carries 3 nats, too few to generate digits: images of 144 pixels and more.
# family: shape, latents, width, likelihoods, and by architecture the noise variance that a learned one ends at.
_FAMILIES: dict[str, tuple[tuple[int, ...], int, int, tuple[str, ...], dict[str, float]]] = {
    "digits": ((1, 8, 8), 8, 96, ("gaussian", "learned"), {"mlp": 0.016, "conv": 0.0145}),
    "mnist": ((1, 28, 28), 12, 128, ("gaussian", "bernoulli"), {"mlp": 0.018}),
    "sprites": ((1, 12, 12), 8, 96, ("gaussian", "bernoulli", "learned"), {"mlp": 0.004, "residual": 0.004}),
    "glyphs": ((1, 12, 12), 10, 96, ("gaussian", "bernoulli", "learned"), {"mlp": 0.008, "residual": 0.0062}),
    "patches": ((1, 8, 8), 16, 96, ("gaussian", "learned"), {"residual": 0.0027, "conv": 0.003}),
    "tabular": ((12,), 8, 64, ("gaussian", "learned"), {"mlp": 0.053, "residual": 0.055}),
    "mixture": ((16,), 5, 64, ("gaussian", "learned"), {"mlp": 0.022, "residual": 0.025}),
    "factors": ((16,), 6, 64, ("gaussian", "learned"), {"mlp": 0.055, "residual": 0.055}),
    "waves": ((16, 1), 5, 32, ("gaussian", "learned"), {"mlp": 0.0117, "recurrent": 0.016}),
    "spectra": ((1, 32), 8, 64, ("gaussian", "learned"), {"mlp": 0.0061, "conv": 0.0065}),
}
# Steps, learning rate, batch: twice as many steps gain little (measured), and a patient stays cheap.
_LONGER = {"mnist": 1.5, "digits": 1.3, "glyphs": 1.3, "bernoulli": 1.5}
_TRAINING = {
    "mlp": (1000, 4e-3, 128),
    "residual": (800, 3e-3, 128),
    "conv": (700, 4e-3, 64),
    "recurrent": (500, 1e-2, 96),
}


def bases() -> list[Base]:
    found = []
    for family, (shape, latents, width, likelihoods, variances) in _FAMILIES.items():
        for architecture, variance in variances.items():
            steps, lr, batch = _TRAINING[architecture]
            for likelihood in likelihoods:
                n = round(steps * _LONGER.get(family, 1) * _LONGER.get(likelihood, 1))
                found.append(Base(family, architecture, likelihood, shape, latents, width, variance, n, batch, lr))
    return found


def anyone(base: Base) -> bool:
    return True


def _plain(p: Program) -> None: ...


def _warm_up(p: Program) -> None:
    p.before, p.total = [f"WEIGHT = min(1.0, STEP / {p.steps // 4})"], "RECON + WEIGHT * KL"


def _cosine(p: Program) -> None:
    p.after_optimizer = [f"schedule = torch.optim.lr_scheduler.CosineAnnealingLR(OPT, {round(1.05 * p.steps)})"]
    p.update = ["LOSS.backward()", "OPT.step()", "schedule.step()"]


def _clip(p: Program) -> None:
    p.update = ["LOSS.backward()", "nn.utils.clip_grad_norm_(OPT.param_groups[0]['params'], 50.0)", "OPT.step()"]


def _decay(p: Program) -> None:
    p.optimizer = "torch.optim.AdamW(PARAMS, lr=RATE, weight_decay=1e-3)"


def _lighter(p: Program) -> None:
    p.total = "RECON + 0.5 * KL"


def _heavier(p: Program) -> None:
    p.total = "RECON + 1.5 * KL"


def _spare_latents(p: Program) -> None:
    p.decoder = p.decoder.replace(f"nn.Linear({p.latents}, ", f"nn.Linear({2 * p.latents}, ", 1)
    p.decoder = p.decoder.replace(f"Writer({p.latents}, ", f"Writer({2 * p.latents}, ")
    p.latents *= 2


def _saved(p: Program) -> None:
    p.finish, p.samples = ["SHOWN = SAMPLES.clamp(0, 1)", *SAVED], True


def _minus_one_one(p: Program) -> None:
    p.prepare += ["ROWS = 2 * ROWS - 1"]
    p.recon = f"{SQUARES} / (2 * {4 * p.base.variance:g})"
    p.decode = ["XHAT = torch.tanh(DECODER(ZED))"]
    p.finish, p.samples = ["SHOWN = (SAMPLES / 2 + 0.5).clamp(0, 1)", *SAVED], True


def _dropout(p: Program) -> None:
    with_dropout(p, 0.1)


def _batch_norm(p: Program) -> None:
    w = p.base.width
    p.encoder = p.encoder.replace(f", {w}), ", f", {w}), nn.BatchNorm1d({w}), ", 1)


def _halved(p: Program) -> None:
    """Both terms divided by the number of features: the same balance."""
    p.total = f"(RECON + KL) / {p.base.features}"


TWISTS: dict[str, tuple[Callable[[Program], None], Callable[[Base], bool]]] = {
    "plain": (_plain, anyone), "warm-up": (_warm_up, anyone), "cosine": (_cosine, anyone),
    "clip": (_clip, anyone), "decay": (_decay, anyone), "lighter": (_lighter, anyone),
    "heavier": (_heavier, anyone), "spare latents": (_spare_latents, anyone), "saved": (_saved, image),
    "minus one to one": (_minus_one_one, gaussian_image), "dropout": (_dropout, multilayer),
    "batch norm": (_batch_norm, multilayer), "per feature": (_halved, gaussian),
}  # fmt: skip
