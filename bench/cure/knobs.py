"""Broken scripts with their knobs laid open, for searches that know nothing of what is wrong.

A knob stands where a person would turn it: `old -> new` is a replacement in the script's own text, `new` holds the knob's
name in braces. With its `own` values each script is the one it was. What the repaired reference differs by is `repair`, or
the twin beside it (`*.fixed.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Edits = tuple[tuple[str, str], ...]
ACTIVATIONS = ("nn.Identity()", "nn.Sigmoid()", "nn.Tanh()", "nn.ReLU()", "nn.Softplus()")
# (lowest, highest), searched on a logarithmic scale: each holds the repaired value well inside.
RANGES: dict[str, tuple[float, float]] = {
    "kl_weight": (1e-4, 1e4), "learning_rate": (1e-5, 1e-1), "latents": (1, 64), "encoder": (2, 512), "decoder": (2, 512),
    "channels_in": (2, 64), "channels_out": (2, 64),
}  # fmt: skip


@dataclass(frozen=True)
class Script:
    path: str
    own: dict[str, Any]
    edits: Edits
    repair: Edits = ()

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @property
    def file(self) -> Path:
        return ROOT / self.path

    def turned(self, values: dict[str, Any]) -> str:
        """The script's text with its knobs at `values`."""
        return replaced(self.file.read_text(encoding="utf-8"), self.edits, values)

    def reference(self) -> str:
        """The text of the repaired script."""
        if not self.repair:
            return self.file.with_suffix(".fixed.py").read_text(encoding="utf-8")
        return replaced(self.file.read_text(encoding="utf-8"), self.repair, {})


def replaced(text: str, edits: Edits, values: dict[str, Any]) -> str:
    """Every `old` that stands in the text becomes its `new`.

    Raises:
        ValueError: an `old` stands there no more.
    """
    for old, new in edits:
        if old not in text:
            raise ValueError(f"{old!r} is not in the script")
        text = text.replace(old, new.format(**values))
    return text


def _own(kl_weight: float, learning_rate: float, latents: int, encoder: int, decoder: int, activation: str) -> Any:
    values = (kl_weight, learning_rate, latents, encoder, decoder, f"nn.{activation}()")
    return dict(zip(("kl_weight", "learning_rate", "latents", "encoder", "decoder", "activation"), values, strict=True))


BROKEN = "tests/scripts/broken/"
SCRIPTS = (
    Script(
        "examples/kl_weight_100.py",
        {"kl_weight": 100, "learning_rate": 2e-3, "latents": 10, "channels_in": 16, "channels_out": 16, "activation": "nn.Sigmoid()"},
        (
            ("100 * kl", "{kl_weight} * kl"), ("lr=2e-3", "lr={learning_rate}"), ("latent_size=10", "latent_size={latents}"),
            ("randn(3, 10)", "randn(3, {latents})"), ("torch.sigmoid(self", "{activation}(self"),
            ("nn.Conv2d(1, 16,", "nn.Conv2d(1, {channels_in},"), ("nn.Conv2d(16, 32,", "nn.Conv2d({channels_in}, 2 * {channels_in},"),
            ("nn.Linear(32 * 2 * 2,", "nn.Linear(2 * {channels_in} * 2 * 2,"), ("latent_size, 32 * 2 * 2)", "latent_size, 2 * {channels_out} * 2 * 2)"),
            ("ConvTranspose2d(32, 16,", "ConvTranspose2d(2 * {channels_out}, {channels_out},"),
            ("ConvTranspose2d(16, 1,", "ConvTranspose2d({channels_out}, 1,"), (".view(-1, 32, 2, 2)", ".view(-1, 2 * {channels_out}, 2, 2)"),
        ),
        (("100 * kl", "kl"),),
    ),
    Script(
        "examples/sigmoid_on_pixels_0_255.py", _own(1, 1e-3, 8, 128, 128, "Sigmoid"),
        (
            ("squared_error + kl", "squared_error + {kl_weight} * kl"), ("lr=1e-3", "lr={learning_rate}"),
            ("latent_size = 8", "latent_size = {latents}"), ("torch.sigmoid(", "{activation}("),
            ("nn.Linear(input_size, hidden_size)", "nn.Linear(input_size, {encoder})"),
            ("nn.Linear(hidden_size, latent_size)", "nn.Linear({encoder}, latent_size)"),
            ("nn.Linear(latent_size, hidden_size)", "nn.Linear(latent_size, {decoder})"),
            ("nn.Linear(hidden_size, input_size)", "nn.Linear({decoder}, input_size)"),
        ),
        (("* 255 / 16", "/ 16"), (".sum(dim=1).mean()\n    kl", ".sum(dim=1).mean() / (2 * 0.02)\n    kl")),
    ),
    Script(
        "examples/sixteen_neurons.py", _own(1, 2e-3, 16, 16, 16, "Identity"),
        (
            ("reconstruction + kl\n", "reconstruction + {kl_weight} * kl\n"), ("lr=2e-3", "lr={learning_rate}"), ("LATENT = 16", "LATENT = {latents}"),
            ("nn.Linear(256, HIDDEN)", "nn.Linear(256, {encoder})"), ("nn.Linear(HIDDEN, LATENT)", "nn.Linear({encoder}, LATENT)"),
            ("nn.Linear(LATENT, HIDDEN)", "nn.Linear(LATENT, {decoder})"), ("nn.Linear(HIDDEN, 256))", "nn.Linear({decoder}, 256), {activation})"),
        ),
        (("HIDDEN = 16", "HIDDEN = 256"),),
    ),
    Script(
        BROKEN + "OBJ01_beta_constant.py", _own(30.0, 3e-3, 10, 128, 128, "Identity"),
        (
            ("BETA = 30.0", "BETA = {kl_weight}"), ("lr=3e-3", "lr={learning_rate}"), ("BetaVAE(10)", "BetaVAE({latents})"),
            ("nn.Linear(64, 128)", "nn.Linear(64, {encoder})"), ("nn.Linear(128, nz)", "nn.Linear({encoder}, nz)"),
            ("nn.Linear(nz, 128)", "nn.Linear(nz, {decoder})"), ("nn.Linear(128, 64))", "nn.Linear({decoder}, 64), {activation})"),
        ),
    ),
    Script(
        BROKEN + "OBJ01_config_weight.py", _own(500.0, 2e-3, 4, 64, 64, "Identity"),
        (
            ("kl_weight=500.0", "kl_weight={kl_weight}"), ("lr=2e-3", "lr={learning_rate}"), ("latent=4", "latent={latents}"),
            ("nn.Linear(81, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 2 * latent)",
             "nn.Linear(81, {encoder}), nn.ELU(), nn.Linear({encoder}, {encoder}), nn.ELU(), nn.Linear({encoder}, 2 * latent)"),
            ("nn.Linear(latent, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 81)",
             "nn.Linear(latent, {decoder}), nn.ELU(), nn.Linear({decoder}, {decoder}), nn.ELU(), nn.Linear({decoder}, 81), {activation}"),
        ),
    ),
    Script(
        BROKEN + "OBJ01_warmup_target.py", _own(100.0, 4e-3, 8, 128, 128, "Identity"),
        (
            ("MAX_BETA = 100.0", "MAX_BETA = {kl_weight}"), ("lr=4e-3", "lr={learning_rate}"),
            ("code[..., :8], code[..., 8:]", "code[..., :{latents}], code[..., {latents}:]"),
            ("nn.Linear(64, 128), nn.SELU(), nn.Linear(128, 16)", "nn.Linear(64, {encoder}), nn.SELU(), nn.Linear({encoder}, 2 * {latents})"),
            ("nn.Linear(8, 128), nn.SELU(), nn.Linear(128, 64)",
             "nn.Linear({latents}, {decoder}), nn.SELU(), nn.Linear({decoder}, 64), {activation}"),
        ),
    ),
    Script(
        BROKEN + "OBJ02_mse_mean.py", _own(1, 2e-3, 10, 128, 128, "Sigmoid"),
        (
            ("recon_loss + kl_loss", "recon_loss + {kl_weight} * kl_loss"), ("lr=2e-3", "lr={learning_rate}"),
            ("latent_dim=10", "latent_dim={latents}"), ("torch.sigmoid(", "{activation}("),
            ("nn.Linear(input_dim, hidden_dim)", "nn.Linear(input_dim, {encoder})"),
            ("nn.Linear(hidden_dim, latent_dim)", "nn.Linear({encoder}, latent_dim)"),
            ("nn.Linear(latent_dim, hidden_dim)", "nn.Linear(latent_dim, {decoder})"),
            ("nn.Linear(hidden_dim, input_dim)", "nn.Linear({decoder}, input_dim)"),
        ),
    ),
    Script(
        BROKEN + "OBJ03_tiny_weight.py", _own(0.00025, 3e-3, 10, 64, 64, "Identity"),
        (
            ("M_N=0.00025", "M_N={kl_weight}"), ("lr=3e-3", "lr={learning_rate}"), ("latent_dim: int = 10", "latent_dim: int = {latents}"),
            ("nn.Linear(in_features, 128), nn.LeakyReLU(), nn.Linear(128, 64), nn.LeakyReLU())",
             "nn.Linear(in_features, 2 * {encoder}), nn.LeakyReLU(), nn.Linear(2 * {encoder}, {encoder}), nn.LeakyReLU())"),
            ("nn.Linear(64, latent_dim)", "nn.Linear({encoder}, latent_dim)"),
            ("nn.Linear(latent_dim, 64), nn.LeakyReLU(), nn.Linear(64, 128)",
             "nn.Linear(latent_dim, {decoder}), nn.LeakyReLU(), nn.Linear({decoder}, 2 * {decoder})"),
            ("nn.Linear(128, in_features))", "nn.Linear(2 * {decoder}, in_features), {activation})"),
        ),
    ),
    Script(
        BROKEN + "OUT01_sigmoid_standardised.py", _own(1, 1e-3, 4, 64, 64, "Sigmoid"),
        (
            ("(rec + kl)", "(rec + {kl_weight} * kl)"), ("lr=1e-3", "lr={learning_rate}"), ("d_z=4", "d_z={latents}"),
            ("torch.sigmoid(", "{activation}("),
            ("nn.Linear(d_in, d_h), nn.Linear(d_h, d_h)", "nn.Linear(d_in, {encoder}), nn.Linear({encoder}, {encoder})"),
            ("nn.Linear(d_h, d_z)", "nn.Linear({encoder}, d_z)"),
            ("nn.Linear(d_z, d_h), nn.Linear(d_h, d_h)", "nn.Linear(d_z, {decoder}), nn.Linear({decoder}, {decoder})"),
            ("nn.Linear(d_h, d_in)", "nn.Linear({decoder}, d_in)"),
        ),
    ),
    Script(
        BROKEN + "CAP01_three_units.py", _own(1, 2e-3, 8, 3, 128, "Identity"),
        (
            ("(rec + kl)", "(rec + {kl_weight} * kl)"), ("lr=2e-3", "lr={learning_rate}"), ("nz=8", "nz={latents}"),
            ("ENC_HIDDEN = 3", "ENC_HIDDEN = {encoder}"), ("DEC_HIDDEN = 128", "DEC_HIDDEN = {decoder}"),
            ("nn.Linear(8, DEC_HIDDEN)", "nn.Linear({latents}, DEC_HIDDEN)"), ("nn.Linear(DEC_HIDDEN, 64))", "nn.Linear(DEC_HIDDEN, 64), {activation})"),
        ),
    ),
    Script(
        BROKEN + "TRN01_learning_rate.py", _own(1.0, 2e-2, 8, 100, 100, "Identity"),
        (
            ("LEARNING_RATE = 2e-2", "LEARNING_RATE = {learning_rate}"), ("- 0.5 * (1", "- {kl_weight} * 0.5 * (1"),
            ("nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 16)", "nn.Linear(64, {encoder}), nn.ReLU(), nn.Linear({encoder}, 2 * {latents})"),
            ("nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 64)",
             "nn.Linear({latents}, {decoder}), nn.ReLU(), nn.Linear({decoder}, 64), {activation}"),
        ),
    ),
)  # fmt: skip
