"""A training script in pieces, before it gets a style: what a fault edits, and what `styles` lays out as text.

Words in capitals are places, renamed by the style: XB (batch), XT (target), H (features), MU, LOGVAR, ZED, XHAT,
RECON, KL, LOSS, OPT, STEP (counter), TRAIN, TEST, ROWS, SAMPLES, SHOWN, COUNT; ENCODER, TO_MU, TO_LV, DECODER, LOGSIG
and PARAMS (parts of the model, reached as the style reaches them); MODEL_TRAIN and MODEL_EVAL (statements).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

IMAGES = ("digits", "mnist", "sprites", "glyphs", "patches")
HELD_OUT = 400  # rows that a script keeps for evaluation

RESIDUAL = """class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(x)))
"""
RECURRENT = """class Reader(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.rnn = nn.GRU(1, width, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[1][0]


class Writer(nn.Module):
    def __init__(self, latents, width, length):
        super().__init__()
        self.start = nn.Linear(latents, width)
        self.rnn = nn.GRU(latents, width, batch_first=True)
        self.readout = nn.Linear(width, 1)
        self.length = length

    def forward(self, z):
        hidden = torch.tanh(self.start(z)).unsqueeze(0)
        steps = z.unsqueeze(1).expand(-1, self.length, -1).contiguous()
        return self.readout(self.rnn(steps, hidden)[0])
"""


@dataclass(frozen=True)
class Base:
    """A healthy VAE: who its data is, how it is built, and what it may cost."""

    family: str
    architecture: str  # mlp, conv, residual, recurrent
    likelihood: str  # gaussian, bernoulli, learned
    shape: tuple[int, ...]
    latents: int
    width: int
    variance: float  # of a pixel or feature, where it is fixed: what a learned one ends at
    steps: int
    batch: int = 64
    lr: float = 1e-3
    nonlinearity: str = "nn.ReLU()"

    @property
    def features(self) -> int:
        return math.prod(self.shape)


@dataclass
class Program:
    """Lines of code, by what they do. `decode_alone`: how new samples are decoded, where that differs from training."""

    base: Base
    helpers: list[str] = field(default_factory=list)
    encoder: str = ""
    encoded: int = 0  # features that the encoder puts out
    decoder: str = ""
    latents: int = 0
    steps: int = 0
    batch: int = 64
    lr: float = 1e-3
    rows: str = ""  # of training: a slice, such as "[:60]"
    prepare: list[str] = field(default_factory=list)
    encode: list[str] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)
    decode: list[str] = field(default_factory=list)
    decode_alone: list[str] | None = None
    target: list[str] = field(default_factory=list)
    recon: str = ""
    kl: str = ""
    total: str = "RECON + KL"
    optimised: tuple[str, ...] | None = None  # parts; None: all
    optimizer: str = "torch.optim.Adam(PARAMS, lr=RATE)"
    after_optimizer: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)  # each step
    zero: list[str] = field(default_factory=lambda: ["OPT.zero_grad()"])
    update: list[str] = field(default_factory=lambda: ["LOSS.backward()", "OPT.step()"])
    draw: str = "torch.randn(COUNT, LATENTS)"
    generate_mode: str = "MODEL_EVAL"
    finish: list[str] = field(default_factory=lambda: ["SHOWN = SAMPLES"])
    evaluates: bool | None = None  # must (not) evaluate or sample, whatever the style says
    samples: bool | None = None
    log_sigma: str = ""


def build(base: Base) -> Program:
    program = Program(base, latents=base.latents, steps=base.steps, batch=base.batch, lr=base.lr)
    _architecture(program)
    program.log_sigma = f"torch.tensor({0.5 * math.log(base.variance) + 0.7:.1f})"
    program.encode = ["H = ENCODER(XB)", "MU = TO_MU(H)", "LOGVAR = TO_LV(H)"]
    program.sample = ["ZED = MU + torch.exp(0.5 * LOGVAR) * torch.randn_like(MU)"]
    program.decode = ["XHAT = DECODER(ZED)"]
    program.recon = RECONSTRUCTION[base.likelihood].format(variance=base.variance, features=base.features)
    program.kl = "-0.5 * (1 + LOGVAR - MU ** 2 - LOGVAR.exp()).sum(1).mean()"
    if base.likelihood == "bernoulli":
        program.decode = ["XHAT = torch.sigmoid(DECODER(ZED))"]
    return program


SQUARES = "((XHAT - XT) ** 2).flatten(1).sum(1).mean()"
RECONSTRUCTION = {
    "gaussian": SQUARES + " / (2 * {variance})",
    "bernoulli": 'F.binary_cross_entropy(XHAT, XT, reduction="sum") / len(XB)',
    "learned": "{features} * LOGSIG + " + SQUARES + " / (2 * torch.exp(2 * LOGSIG))",
}


def _architecture(program: Program) -> None:
    base, f = program.base, program.base.nonlinearity
    w, d, n = base.width, base.latents, base.features
    program.encoded = w
    if base.architecture == "conv":
        _convolutions(program)
    elif base.architecture == "recurrent":
        program.helpers = [RECURRENT]
        program.encoder, program.decoder = f"Reader({w})", f"Writer({d}, {w}, {base.shape[0]})"
    elif base.architecture == "residual":
        program.helpers = [RESIDUAL]
        program.encoder = f"nn.Sequential({flat(base)}nn.Linear({n}, {w}), Block({w}), Block({w}), {f})"
        program.decoder = (
            f"nn.Sequential(nn.Linear({d}, {w}), Block({w}), Block({w}), {f}, nn.Linear({w}, {n}){shaped(base)})"
        )
    else:
        program.encoder = f"nn.Sequential({flat(base)}nn.Linear({n}, {w}), {f}, nn.Linear({w}, {w}), {f})"
        program.decoder = (
            f"nn.Sequential(nn.Linear({d}, {w}), {f}, nn.Linear({w}, {w}), {f}, nn.Linear({w}, {n}){shaped(base)})"
        )


def flat(base: Base) -> str:
    return "nn.Flatten(), " if len(base.shape) > 1 else ""


def shaped(base: Base) -> str:
    return f", nn.Unflatten(1, {base.shape})" if len(base.shape) > 1 else ""


def _convolutions(program: Program) -> None:
    base, f = program.base, program.base.nonlinearity
    dims, w = len(base.shape) - 1, base.width // 4
    small = tuple(s // 4 for s in base.shape[1:])
    inner = 2 * w * math.prod(small)
    conv, back = f"nn.Conv{dims}d", f"nn.ConvTranspose{dims}d"
    program.encoded = inner
    program.encoder = (
        f"nn.Sequential({conv}(1, {w}, 3, stride=2, padding=1), {f}, "
        f"{conv}({w}, {2 * w}, 3, stride=2, padding=1), {f}, nn.Flatten())"
    )
    program.decoder = (
        f"nn.Sequential(nn.Linear({base.latents}, {inner}), {f}, nn.Unflatten(1, {(2 * w, *small)}), "
        f"{back}({2 * w}, {w}, 4, stride=2, padding=1), {f}, {back}({w}, 1, 4, stride=2, padding=1))"
    )
