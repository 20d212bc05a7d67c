"""Faults to inject: each edits a program as a mistake would, in three severities, and names the code it must be given.

`accept`: other codes that name the same mistake, with the reason in the comment beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.bank.program import IMAGES, SQUARES, Base, Program, shaped

MILD, MEDIUM, STRONG = "mild", "medium", "strong"
TABLES = ("tabular", "mixture", "factors")
NOISE = "torch.randn_like(MU)"
STD = "torch.exp(0.5 * LOGVAR)"


def _always(base: Base) -> bool:
    return True


@dataclass(frozen=True)
class Fault:
    name: str
    code: str
    edit: Callable[[Program, Any], None]
    levels: dict[str, Any]  # severity -> what `edit` is given
    applies: Callable[[Base], bool] = _always
    accept: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {}


def fault(
    code: str, levels: dict[str, Any], applies: Callable[[Base], bool] = _always, accept: tuple[str, ...] = ()
) -> Callable[[Callable[[Program, Any], None]], Callable[[Program, Any], None]]:
    def register(edit: Callable[[Program, Any], None]) -> Callable[[Program, Any], None]:
        name = edit.__name__
        FAULTS[name] = Fault(name, code, edit, levels, applies, accept)
        return edit

    return register


def image(base: Base) -> bool:
    return base.family in IMAGES


def gaussian(base: Base) -> bool:
    return base.likelihood == "gaussian"


def bernoulli(base: Base) -> bool:
    return base.likelihood == "bernoulli"


def gaussian_image(base: Base) -> bool:
    return image(base) and gaussian(base)


def signed(base: Base) -> bool:
    """Data below zero, compared by squares."""
    return not image(base) and gaussian(base)


def table(base: Base) -> bool:
    return base.family in TABLES and base.likelihood != "bernoulli"


def multilayer(base: Base) -> bool:
    return base.architecture == "mlp"


def fed_forward(base: Base) -> bool:
    return base.architecture != "recurrent"


def _three(mild: Any, medium: Any, strong: Any) -> dict[str, Any]:
    return {MILD: mild, MEDIUM: medium, STRONG: strong}


# ---------------------------------------------------------------------- data
@fault("DAT01", _three(1500, 400, 50))
def missing_values(p: Program, every: int) -> None:
    p.prepare += [f'ROWS.flatten(1)[::{every}, 3] = float("nan")']


@fault("DAT01", {STRONG: None}, lambda b: b.family in {"digits", "mnist", "sprites"} and gaussian(b))
def log_of_zero(p: Program, _: Any) -> None:
    p.prepare += ["ROWS = torch.log(ROWS)"]


@fault("DAT01", {STRONG: None}, lambda b: b.family in {"digits", "mnist"} and gaussian(b))
def constant_pixel(p: Program, _: Any) -> None:
    p.prepare += ["ROWS = (ROWS - ROWS.mean(0)) / ROWS.std(0)"]


@fault("DAT02", _three(30, 100, 255), gaussian_image)
def byte_pixels(p: Program, k: int) -> None:
    p.prepare += [f"ROWS = ROWS * {k}"]
    p.finish = [f"SHOWN = SAMPLES / {k}"]


@fault("DAT02", _three(100, 2000, 50000), table)
def dollar_column(p: Program, k: int) -> None:
    p.prepare += [f"ROWS[:, 2] = ROWS[:, 2] * {k}"]
    p.finish = ["SHOWN = SAMPLES.clone()", f"SHOWN[:, 2] = SHOWN[:, 2] / {k}"]


@fault("DAT03", _three(24, 8, 2))
def few_distinct(p: Program, k: int) -> None:
    p.prepare += [f"ROWS = ROWS[torch.arange(len(ROWS)) % {k}]"]


# ---------------------------------------------------------------------- wiring
@fault("WIR01", _three(("ENCODER", "TO_LV", "DECODER"), ("TO_MU", "TO_LV", "DECODER"), ("ENCODER", "TO_MU", "TO_LV")))
def not_optimised(p: Program, parts: tuple[str, ...]) -> None:
    p.optimised = parts


@fault("WIR02", _three(20, 200, 100000))
def rarely_cleared(p: Program, every: int) -> None:
    p.zero = [f"if STEP % {every} == {every - 1}:", "    OPT.zero_grad()"] if every < 100000 else []


@fault("WIR03", _three("H = torch.softmax(H, dim=0) * len(H)",
                       "H = H + torch.softmax(H @ H.t() / 8, dim=-1) @ H",
                       "H = H.t().reshape(H.shape)"))  # fmt: skip
def rows_meet(p: Program, line: str) -> None:
    p.encode.insert(1, line)


@fault("WIR03", _three("ZED = ZED - ZED.mean(0)", "ZED = ZED.t().reshape(ZED.shape)", "ZED = ZED.cumsum(0)"))
def codes_meet(p: Program, line: str) -> None:
    p.sample += [line]


@fault("WIR04", _three("XB.roll(1, 0)", "XB[torch.randperm(len(XB))]", "XB[:1].expand_as(XB)"))
def other_row(p: Program, text: str) -> None:
    p.target = [f"XT = {text}"]


@fault("WIR04", {STRONG: None}, lambda b: b.family in TABLES and gaussian(b))
def broadcast(p: Program, _: Any) -> None:
    p.target = ["XT = XB.unsqueeze(1)"]


@fault("WIR04", _three("2 * XB", "2 * XB - 1", "(XB - XB.mean()) / XB.std()"), gaussian_image)
def other_normalisation(p: Program, text: str) -> None:
    p.target = [f"XT = {text}"]


@fault("WIR05", _three(f"torch.distributions.Normal(MU, {STD}).sample()", f"(MU + {STD} * {NOISE}).detach()",
                       f"torch.normal(MU, {STD}).detach()"))  # fmt: skip
def latent_cut(p: Program, text: str) -> None:
    p.sample = [f"ZED = {text}"]


# ---------------------------------------------------------------------- objective
@fault("OBJ01", _three(8, 40, 400), accept=("OUT04",))  # a weight and a noise variance are one number
def heavy_kl(p: Program, k: float) -> None:
    p.total = f"RECON + {k} * KL"


@fault("OBJ02", _three(0, 1, 2), lambda b: b.likelihood != "learned")
def mean_reconstruction(p: Program, level: int) -> None:
    b = p.base
    if bernoulli(b):
        mean = "F.binary_cross_entropy(XHAT, XT)"
        rows = 'F.binary_cross_entropy(XHAT, XT, reduction="none").mean(-1).flatten(1).sum(1).mean()'
    else:
        mean = f"F.mse_loss(XHAT, XT) / (2 * {b.variance})" if level == 1 else "F.mse_loss(XHAT, XT)"
        rows = f"((XHAT - XT) ** 2).mean(-1).flatten(1).sum(1).mean() / (2 * {b.variance})"
    p.recon = rows if level == 0 and len(b.shape) > 1 and b.shape[-1] > 1 else mean


@fault("OBJ03", _three(1e-2, 1e-3, 1e-5), accept=("OUT04",))  # as OBJ01
def light_kl(p: Program, k: float) -> None:
    p.total = f"RECON + {k} * KL"


@fault("OBJ04", _three("RECON + KL.item()", "RECON + KL.detach()", "RECON + 0.0 * KL"))
def no_kl(p: Program, text: str) -> None:
    p.total = text


@fault("OBJ04", {MEDIUM: None})
def kl_of_constants(p: Program, _: Any) -> None:
    p.kl = "-0.5 * (1 + LOGVAR.detach() - MU.detach() ** 2 - LOGVAR.detach().exp()).sum(1).mean()"


@fault("OBJ05", _three("1 + LOGVAR - MU.abs() - LOGVAR.exp()", "1 + LOGVAR - MU - LOGVAR.exp()",
                       "1 + LOGVAR - LOGVAR.exp()"))  # fmt: skip
def kl_wrong_mean(p: Program, text: str) -> None:
    p.kl = f"-0.5 * ({text}).sum(1).mean()"


@fault("OBJ05", _three("1 - MU ** 2 - LOGVAR.exp()", "1 + torch.log(LOGVAR ** 2 + 1e-6) - MU ** 2 - LOGVAR ** 2",
                       "-(1 + LOGVAR - MU ** 2 - LOGVAR.exp())"), accept=("TRN01",))  # fmt: skip  # the sign diverges
def kl_wrong_variance(p: Program, text: str) -> None:
    p.kl = f"-0.5 * ({text}).sum(1).mean()"


@fault("OBJ06", {STRONG: None, MEDIUM: None})
def kl_sums_batch(p: Program, _: Any) -> None:
    p.kl = "-0.5 * (1 + LOGVAR - MU ** 2 - LOGVAR.exp()).sum()"


@fault("OBJ06", {STRONG: None, MEDIUM: None}, lambda b: b.likelihood != "learned")
def reconstruction_sums_batch(p: Program, _: Any) -> None:
    p.recon = p.recon.replace(" / len(XB)", "").replace(".sum(1).mean()", ".sum()")


@fault("OBJ07", _three(20, 200, 5000), accept=("OBJ03",))  # what the weight ends at is too light
def slow_schedule(p: Program, k: int) -> None:
    p.before = [f"WEIGHT = min(1.0, STEP / {k * p.steps})"]
    p.total = "RECON + WEIGHT * KL"


@fault("OBJ08", {STRONG: None}, bernoulli)
def swapped_arguments(p: Program, _: Any) -> None:
    p.recon = 'F.binary_cross_entropy(XT, XHAT, reduction="sum") / len(XB)'


@fault("OBJ08", _three("(XHAT - XT).flatten(1).sum(1) ** 2", "(XHAT - XT).flatten(1).sum(1).abs()",
                       "-((XHAT - XT) ** 2).flatten(1).sum(1)"), gaussian, ("TRN01",))  # fmt: skip  # the sign diverges
def error_summed_first(p: Program, text: str) -> None:
    p.recon = f"({text}).mean() / (2 * {p.base.variance})"


# ---------------------------------------------------------------------- output
@fault("OUT01", _three("torch.tanh", "torch.sigmoid", "torch.relu"), signed)
def squashed(p: Program, function: str) -> None:
    p.decode = [f"XHAT = {function}(DECODER(ZED))"]


@fault("OUT01", _three("torch.relu", "torch.sigmoid", "torch.sigmoid"), gaussian_image)
def squashed_image(p: Program, function: str) -> None:
    p.prepare += ["ROWS = 2 * ROWS - 1"]
    p.decode = [f"XHAT = {function}(DECODER(ZED))"]
    p.finish = ["SHOWN = (SAMPLES + 1) / 2"]


@fault("OUT02", _three("2 * ROWS", "2 * ROWS - 1", "(ROWS - ROWS.mean()) / ROWS.std()"), bernoulli)
def beyond_bernoulli(p: Program, text: str) -> None:
    """With logits: the version of probabilities stops at the first batch nowadays."""
    p.prepare += ["MIDDLE, SPREAD = ROWS.mean(), ROWS.std()", f"ROWS = {text}"]
    p.decode = ["XHAT = DECODER(ZED)"]
    p.recon = 'F.binary_cross_entropy_with_logits(XHAT, XT, reduction="sum") / len(XB)'
    p.finish = ["SHOWN = torch.sigmoid(SAMPLES)"]


@fault("OUT03", {MEDIUM: None, STRONG: None}, bernoulli)
def sigmoid_before_logits(p: Program, _: Any) -> None:
    p.recon = 'F.binary_cross_entropy_with_logits(XHAT, XT, reduction="sum") / len(XB)'


@fault("OUT03", {MEDIUM: None}, bernoulli)
def sigmoid_twice(p: Program, _: Any) -> None:
    p.decode = ["XHAT = torch.sigmoid(torch.sigmoid(DECODER(ZED)))"]


@fault("OUT04", _three(10, 50, 1000), gaussian, ("OBJ01",))  # a weight and a noise variance are one number
def wide_noise(p: Program, k: float) -> None:
    p.recon = f"{SQUARES} / (2 * {p.base.variance * k:g})"


@fault("OUT04", _three(0.02, 0.002, 0.0001), gaussian, ("OBJ03",))  # as above
def narrow_noise(p: Program, k: float) -> None:
    p.recon = f"{SQUARES} / (2 * {p.base.variance * k:g})"


@fault("OUT04", _three(0.6, 1.2, 2.0), lambda b: b.likelihood == "learned", ("OBJ01",))  # as above
def noise_clamped(p: Program, above: float) -> None:
    floor = 0.5 * math.log(p.base.variance) + above
    p.recon = p.recon.replace("LOGSIG", f"LOGSIG.clamp(min={floor:.2f})")


# ---------------------------------------------------------------------- posterior
@fault("POS02", _three("MU + 0 * LOGVAR", "MU", f"MU + 0.0 * {STD} * {NOISE}"))
def no_noise(p: Program, text: str) -> None:
    p.sample = [f"ZED = {text}"]


@fault("POS03", _three(f"{STD} * torch.rand_like(MU)", "torch.exp(LOGVAR) * torch.randn_like(MU)",
                       f"0.05 * {STD} * {NOISE}"), accept=("OBJ05",))  # fmt: skip
def wrong_noise(p: Program, text: str) -> None:
    """Variance for standard deviation: the draw is wrong for this KL, or the KL for this draw (OBJ05)."""
    p.sample = [f"ZED = MU + {text}"]


@fault("POS03", {MILD: None, MEDIUM: None})
def shared_noise(p: Program, _: Any) -> None:
    p.sample = [f"ZED = MU + {STD} * torch.randn(1, MU.shape[1])"]


@fault("POS04", _three("torch.tanh", "torch.relu", "torch.sigmoid"))
def squashed_mean(p: Program, function: str) -> None:
    p.encode[1] = f"MU = {function}(TO_MU(H))"


@fault("POS04", _three("torch.tanh(TO_LV(H))", "F.softplus(TO_LV(H))", "TO_LV(H).clamp(min=0)"))
def squashed_variance(p: Program, text: str) -> None:
    p.encode[2] = f"LOGVAR = {text}"


@fault("POS05", _three(4, 16, None), fed_forward)
def skip_connection(p: Program, most: int | None) -> None:
    width = p.encoded if most is None else most
    p.decoder = p.decoder.replace(f"nn.Linear({p.latents}, ", f"nn.Linear({p.latents + width}, ", 1)
    p.decode = [p.decode[0].replace("ZED", f"torch.cat([ZED, H[:, :{width}]], 1)")]
    p.decode_alone = [p.decode[0].replace(f"H[:, :{width}]", f"torch.zeros(len(ZED), {width})")]


# ---------------------------------------------------------------------- capacity
@fault("CAP01", _three(4, 2, 1))
def narrow_encoder(p: Program, k: int) -> None:
    p.encoder = f"nn.Sequential(nn.Flatten(), nn.Linear({p.base.features}, {k}), nn.Tanh())"
    p.encoded = k


@fault("CAP02", _three(4, 3, 2))
def narrow_decoder(p: Program, k: int) -> None:
    b = p.base
    p.decoder = f"nn.Sequential(nn.Linear({p.latents}, {k}), nn.Tanh(), nn.Linear({k}, {b.features}){shaped(b)})"


@fault("CAP02", {MILD: None}, lambda b: b.family in {"mixture", "factors", "waves", "tabular", "spectra"})
def linear_decoder(p: Program, _: Any) -> None:
    p.decoder = f"nn.Sequential(nn.Linear({p.latents}, {p.base.features}){shaped(p.base)})"


@fault("CAP03", _three(0.4, 0.25, 0.0))
def few_latents(p: Program, share: float) -> None:
    kept = max(1, int(share * p.latents))
    p.decoder = p.decoder.replace(f"nn.Linear({p.latents}, ", f"nn.Linear({kept}, ", 1)
    p.decoder = p.decoder.replace(f"Writer({p.latents}, ", f"Writer({kept}, ")
    p.latents = kept


# ---------------------------------------------------------------------- training
@fault("TRN01", {STRONG: None}, bernoulli)
def log_of_nothing(p: Program, _: Any) -> None:
    p.decode = ["XHAT = DECODER(ZED).clamp(0, 1)"]
    p.recon = "-(XT * torch.log(XHAT) + (1 - XT) * torch.log(1 - XHAT)).flatten(1).sum(1).mean()"


@fault("TRN02", _three(0.05, 0.2, 2.0), accept=("TRN01",))  # where the steps were so large that numbers ran over
def large_steps(p: Program, rate: float) -> None:
    p.lr = rate


@fault("TRN02", _three(0.003, 0.03, 3.0), accept=("TRN01",))  # as above
def large_steps_sgd(p: Program, rate: float) -> None:
    p.optimizer, p.lr = "torch.optim.SGD(PARAMS, lr=RATE, momentum=0.9)", rate


@fault("TRN03", _three(12, 30, 100))
def few_steps(p: Program, k: int) -> None:
    p.steps = max(10, p.steps // k)


@fault("TRN03", _three(2e-5, 1e-5, 1e-6))
def small_steps(p: Program, rate: float) -> None:
    p.lr = rate


@fault("TRN04", _three(200, 100, 40), accept=("DAT03",))  # so few rows to learn from
def few_rows(p: Program, k: int) -> None:
    p.rows, p.batch, p.evaluates = f"[:{k}]", min(p.batch, k // 2), True


@fault("TRN05", _three(-2, -5, -20), multilayer)
def dead_units(p: Program, bias: float) -> None:
    p.after_optimizer = ["for layer in ENCODER.modules():", "    if isinstance(layer, nn.Linear):",
                         f"        nn.init.constant_(layer.bias, {bias})"]  # fmt: skip


@fault("TRN06", _three(1e-3, 2e-4, 1e-5), multilayer)
def stale_statistics(p: Program, momentum: float) -> None:
    w = p.base.width
    for part in ("encoder", "decoder"):
        text = getattr(p, part)
        setattr(p, part, text.replace(f", {w}), ", f", {w}), nn.BatchNorm1d({w}, momentum={momentum:g}), ", 1))


# ---------------------------------------------------------------------- generation
@fault("GEN02", _three("0.3 * torch.randn(COUNT, LATENTS)", "torch.rand(COUNT, LATENTS)",
                       "4 * torch.randn(COUNT, LATENTS)"))  # fmt: skip
def wrong_draws(p: Program, text: str) -> None:
    p.draw, p.samples = text, True


@fault("GEN03", _three(0.1, 0.3, 0.5), multilayer)
def dropout_left_on(p: Program, rate: float) -> None:
    with_dropout(p, rate)
    p.generate_mode, p.samples = "MODEL_TRAIN", True


def with_dropout(p: Program, rate: float) -> None:
    w, f = p.base.width, p.base.nonlinearity
    p.decoder = p.decoder.replace(
        f"{f}, nn.Linear({w}, {p.base.features})", f"{f}, nn.Dropout({rate}), nn.Linear({w}, {p.base.features})"
    )


SAVED = [
    "from PIL import Image",
    "PIXELS = (SHOWN[0, 0] * 255).numpy().astype(np.uint8)",
    'Image.fromarray(PIXELS).save("sample.png")',
]


@fault("GEN04", _three("SAMPLES / 2 + 0.5", "SAMPLES * 2 - 1", "SAMPLES * 255"), image)
def shown_in_other_range(p: Program, text: str) -> None:
    p.finish, p.samples = [f"SHOWN = {text}", *SAVED], True


@fault("GEN04", {MEDIUM: None, STRONG: None}, gaussian_image)
def normalisation_not_undone(p: Program, _: Any) -> None:
    p.prepare += ["ROWS = 2 * ROWS - 1"]
    p.recon = f"{SQUARES} / (2 * {4 * p.base.variance:g})"
    p.finish, p.samples = ["SHOWN = SAMPLES", *SAVED], True
