"""Lays a program out as people lay out training scripts: six layouts, four sets of names, two ways of batching."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import indent

from bench.bank.program import HELD_OUT, Program

LAYOUTS = ("plain", "model", "trainer", "inside", "apart", "functions")
NAMES = (
    {"XB": "x", "H": "h", "MU": "mu", "LOGVAR": "logvar", "ZED": "z", "XHAT": "x_hat", "RECON": "recon", "KL": "kl",
     "LOSS": "loss", "OPT": "optimizer", "STEP": "step", "TRAIN": "train", "TEST": "test", "ROWS": "data"},
    {"XB": "batch", "H": "hidden", "MU": "mean", "LOGVAR": "log_var", "ZED": "z", "XHAT": "output", "RECON": "nll",
     "KL": "kld", "LOSS": "loss", "OPT": "opt", "STEP": "i", "TRAIN": "train_x", "TEST": "test_x", "ROWS": "rows"},
    {"XB": "inputs", "H": "features", "MU": "loc", "LOGVAR": "lv", "ZED": "latent", "XHAT": "y", "RECON": "rec_loss",
     "KL": "kl_loss", "LOSS": "total", "OPT": "optim", "STEP": "it", "TRAIN": "X", "TEST": "X_val", "ROWS": "everything"},
    {"XB": "b", "H": "e", "MU": "m", "LOGVAR": "log_variance", "ZED": "code", "XHAT": "decoded", "RECON": "distortion",
     "KL": "rate", "LOSS": "objective", "OPT": "adam", "STEP": "n_step", "TRAIN": "training", "TEST": "held_out",
     "ROWS": "examples"},
)  # fmt: skip
LOOSE = ("plain", "apart", "functions")  # where nobody calls train() and eval() without a need
HEAD = "import numpy as np\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
LOADERS = "from torch.utils.data import DataLoader, TensorDataset\n"
DISTRIBUTIONS = "from torch.distributions import Normal, kl_divergence\n"


@dataclass(frozen=True)
class Style:
    """`evaluates`: on held-out rows, while training; `samples`: draws new rows at the end, as a user would."""

    layout: str = "plain"
    names: int = 0
    loader: bool = False
    evaluates: bool = True
    samples: bool = True
    distributions: bool = False


@dataclass(frozen=True)
class Script:
    """`text` runs alone. `after`: lines that, run in its namespace, leave SHOWN and REBUILT: what its user would
    look at, `COUNT` rows in the unit of the data file, and held-out rows put through the model.
    """

    text: str
    after: str


def render(program: Program, style: Style, data: str, seed: int) -> Script:
    if style.distributions:
        _with_distributions(program)
    draft = _Draft(program, style)
    body = {"plain": draft.plain, "model": draft.model, "trainer": draft.trainer, "inside": draft.inside,
            "apart": draft.apart, "functions": draft.functions}[style.layout]()  # fmt: skip
    head = HEAD + (LOADERS if style.loader else "") + (DISTRIBUTIONS if style.distributions else "")
    rows = f'ROWS = torch.tensor(np.load("{data}"))\n' + _lines(program.prepare)
    split = f"TRAIN, TEST = ROWS[:-{HELD_OUT}]{program.rows}, ROWS[-{HELD_OUT}:]\n"
    text = f"{head}\ntorch.manual_seed({seed})\n\n{rows}{split}\n\n" + "\n\n".join(program.helpers) + "\n" + body
    return Script(draft.named(text), draft.named(draft.after()))


def _with_distributions(program: Program) -> None:
    """Only where no fault has touched these lines: q as a Normal, the KL from the library."""
    if program.sample == ["ZED = MU + torch.exp(0.5 * LOGVAR) * torch.randn_like(MU)"]:
        program.sample = ["POSTERIOR = Normal(MU, torch.exp(0.5 * LOGVAR))", "ZED = POSTERIOR.rsample()"]
    if program.kl == "-0.5 * (1 + LOGVAR - MU ** 2 - LOGVAR.exp()).sum(1).mean()":
        program.kl = "kl_divergence(Normal(MU, torch.exp(0.5 * LOGVAR)), Normal(0.0, 1.0)).sum(-1).mean()"


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _in(lines: list[str] | str, depth: int = 1) -> str:
    return indent(lines if isinstance(lines, str) else _lines(lines), 4 * depth * " ")


class _Draft:
    """One method a layout. `within` maps the parts of the model to how they are reached."""

    def __init__(self, program: Program, style: Style) -> None:
        self.program, self.style = program, style
        self.evaluates = style.evaluates if program.evaluates is None else program.evaluates
        self.samples = style.samples if program.samples is None else program.samples
        self.learned = "LOGSIG" in program.recon
        self.parts = ["ENCODER", "TO_MU", "TO_LV", "DECODER"]
        self.owner = ""  # how the outside reaches the model
        self.moded = style.layout not in LOOSE or "BatchNorm" in program.encoder or "Dropout" in program.decoder

    # ------------------------------------------------------------------ words
    def named(self, text: str) -> str:
        names = {**NAMES[self.style.names], "POSTERIOR": "q", "SAMPLES": "samples", "SHOWN": "shown", "COUNT": "64"}
        names["XT"] = "target" if self.program.target else names["XB"]
        return re.sub(r"\b[A-Z_]{1,9}\b", lambda m: names.get(m[0], m[0]), text)

    def reached(self, text: str, owner: str) -> str:
        """`text` with the parts of the model as seen from outside it, or (owner "self.") from inside."""
        names = {
            "ENCODER": "encoder",
            "TO_MU": "to_mu",
            "TO_LV": "to_logvar",
            "DECODER": "decoder",
            "LOGSIG": "log_sigma",
        }
        if self.style.layout == "apart":
            inside = {"ENCODER": "encoder.body", "TO_MU": "encoder.mu", "TO_LV": "encoder.logvar", "DECODER": "decoder"}
            names = {**names, **inside}
        return re.sub(r"\b(ENCODER|TO_MU|TO_LV|DECODER|LOGSIG)\b", lambda m: owner + names[m[0]], text)

    def modes(self, text: str, owner: str) -> str:
        """MODEL_TRAIN and MODEL_EVAL: one call on a model, or a loop over its parts."""
        for word, call in (("MODEL_TRAIN", "train()"), ("MODEL_EVAL", "eval()")):
            if not self.moded:
                text = re.sub(rf"^ *{word}\n", "", text, flags=re.MULTILINE)
            parts = "encoder, decoder" if self.style.layout == "apart" else "encoder, to_mu, to_logvar, decoder"
            loop = f"for part in ({parts}):\n    part.{call}\n"
            one = f"{owner.rstrip('.')}.{call}\n"
            text = re.sub(
                rf"^( *){word}\n", lambda m, t=one if owner else loop: indent(t, m[1]), text, flags=re.MULTILINE
            )
        return text

    # ------------------------------------------------------------------ pieces
    def made(self, owner: str) -> str:
        p, width = self.program, self.program.encoded
        heads = [f"{name} = nn.Linear({width}, {p.latents})" for name in ("TO_MU", "TO_LV")]
        sigma = [f"LOGSIG = nn.Parameter({p.log_sigma})"] if self.learned else []
        return self.reached(_lines([f"ENCODER = {p.encoder}", *heads, f"DECODER = {p.decoder}", *sigma]), owner)

    def loss_lines(self) -> str:
        p = self.program
        return _lines([*p.target, f"RECON = {p.recon}", f"KL = {p.kl}"])

    def forward_lines(self) -> str:
        p = self.program
        return _lines([*p.encode, *p.sample, *p.decode])

    def optimizer(self, owner: str) -> str:
        p = self.program
        if p.optimised is None and owner:
            params = f"{owner.rstrip('.')}.parameters()"
        else:
            parts = list(p.optimised or self.parts)
            if self.style.layout == "apart" and p.optimised is None:
                params = "*encoder.parameters(), *decoder.parameters()"
            else:
                params = ", ".join(f"*{part}.parameters()" for part in parts)
            params = f"[{params}{', LOGSIG' if self.learned else ''}]"
        line = p.optimizer.replace("PARAMS", params).replace("RATE", f"{p.lr:g}")
        return self.reached(_lines([f"OPT = {line}", *p.after_optimizer]), owner)

    def loop(self, step: str, evaluate: str, every: int) -> str:
        """Batches by a DataLoader over epochs, or by drawn indices."""
        p = self.program
        evaluated = f"if STEP % {every} == 0:\n{_in(evaluate)}" if self.evaluates else ""
        body = "MODEL_TRAIN\n" + step + "STEP += 1\n" + evaluated
        if not self.style.loader:
            pick = f"XB = TRAIN[torch.randint(0, len(TRAIN), ({p.batch},))]\n"
            return f"STEP = 0\nwhile STEP < {p.steps}:\n{_in(pick + body)}"
        return (
            f"STEP = 0\nloader = DataLoader(TensorDataset(TRAIN), batch_size={p.batch}, shuffle=True, drop_last=True)\n"
            f"for epoch in range(max(1, round({p.steps} / max(1, len(loader))))):\n    for (XB,) in loader:\n{_in(body, 2)}"
        )

    def step(self, losses: str) -> str:
        """`losses` computes RECON and KL of XB."""
        p = self.program
        return _lines(p.before) + losses + _lines([f"LOSS = {p.total}", *p.zero, *p.update])

    def generation(self, count: str = "COUNT", *, decode: list[str] | None = None) -> str:
        p = self.program
        draw = p.draw.replace("COUNT", count).replace("LATENTS", str(p.latents))
        lines = decode or p.decode_alone or p.decode
        body = _lines([f"ZED = {draw}", *lines, "SAMPLES = XHAT", *p.finish])
        return f"{p.generate_mode}\nwith torch.no_grad():\n{_in(body)}"

    @property
    def every(self) -> int:
        return max(1, self.program.steps // 6)

    def printed(self, losses: str) -> str:
        text = _lines(["XB = TEST"]) + losses
        line = 'print(f"step {STEP}: held-out reconstruction {RECON.item():.3f}, kl {KL.item():.3f}")\n'
        return f"MODEL_EVAL\nwith torch.no_grad():\n{_in(text)}{line}"

    def after(self) -> str:
        p = self.program
        rebuilt = [*p.encode, *p.sample, *p.decode, "SAMPLES = XHAT", *p.finish, "REBUILT = SHOWN"]
        rebuilt += ["bank_kl = float(-0.5 * (1 + LOGVAR - MU ** 2 - LOGVAR.exp()).sum(1).mean())"]
        back = f"MODEL_EVAL\nwith torch.no_grad():\n    XB = TEST\n{_in(rebuilt)}"
        text = (back + self.generation("512")).replace("SHOWN", "bank_shown").replace("REBUILT", "bank_rebuilt")
        return self.modes(self.reached(text, self.owner), self.owner)

    def outside(self, text: str) -> str:
        return self.modes(self.reached(text, self.owner), self.owner)

    # ------------------------------------------------------------------ layouts
    def plain(self) -> str:
        losses = self.forward_lines() + self.loss_lines()
        loop = self.loop(self.step(losses), self.printed(losses), self.every)
        new = self.generation() if self.samples else ""
        return self.outside(self.made("") + self.optimizer("") + "\n" + loop + "\n" + new)

    def functions(self) -> str:
        p = self.program
        losses = f"def losses(XB):\n{_in(self.forward_lines() + self.loss_lines())}    return RECON, KL\n\n\n"
        call = "RECON, KL = losses(XB)\n"
        loop = self.loop(self.step(call), self.printed(call), self.every)
        sampler = f"def generate(count):\n{_in(self.generation('count'))}    return SHOWN\n\n\n"
        new = f'pictures = generate(64)\nprint("samples", tuple(pictures.shape), "{p.base.family}")\n'
        text = self.made("") + "\n\n" + losses + (sampler if self.samples else "")
        main = self.optimizer("") + loop + (new if self.samples else "")
        return self.outside(text + f'if __name__ == "__main__":\n{_in(main)}')

    def _class(self, name: str, extra: str = "") -> str:
        """forward in one piece; `decode` for new samples."""
        p = self.program
        alone = p.decode_alone or p.decode
        return (
            f"class {name}(nn.Module):\n    def __init__(self):\n        super().__init__()\n{_in(self.made('self.'), 2)}\n"
            f"    def forward(self, XB):\n{_in(self.reached(self.forward_lines(), 'self.'), 2)}"
            "        return XHAT, MU, LOGVAR\n\n"
            f"    def decode(self, ZED):\n{_in(self.reached(_lines(alone), 'self.'), 2)}        return XHAT\n{extra}\n\n"
        )

    def model(self) -> str:
        self.owner = "model."
        loss = self.reached(self.loss_lines(), self.owner)
        function = f"def loss_function(XHAT, XB, MU, LOGVAR):\n{_in(loss)}    return RECON, KL\n\n\n"
        call = _lines(["XHAT, MU, LOGVAR = model(XB)", "RECON, KL = loss_function(XHAT, XB, MU, LOGVAR)"])
        loop = self.loop(self.step(call), self.printed(call), self.every)
        new = self.generation(decode=["XHAT = model.decode(ZED)"]) if self.samples else ""
        return self._class("VAE") + function + self.outside("model = VAE()\n" + self.optimizer("model.") + loop + new)

    def inside(self) -> str:
        """The model computes its own loss and its own samples."""
        self.owner = "net."
        losses = self.reached(self.loss_lines(), "self.")
        extra = (
            f"\n    def losses(self, XB):\n        XHAT, MU, LOGVAR = self(XB)\n{_in(losses, 2)}"
            '        return {"reconstruction": RECON, "kl": KL}\n'
        )
        sampler = self.modes(
            self.reached(self.generation("count", decode=["XHAT = self.decode(ZED)"]), "self."), "self."
        )
        extra += f"\n    def sample(self, count):\n{_in(sampler, 2)}        return SHOWN\n" if self.samples else ""
        call = _lines(["terms = net.losses(XB)", 'RECON, KL = terms["reconstruction"], terms["kl"]'])
        loop = self.loop(self.step(call), self.printed(call), self.every)
        new = "new = net.sample(64)\n" if self.samples else ""
        return self._class("Autoencoder", extra) + self.outside(
            "net = Autoencoder()\n" + self.optimizer("net.") + loop + new
        )

    def trainer(self) -> str:
        self.owner = "self.model."
        loss = self.outside(self.loss_lines())
        call = "XHAT, MU, LOGVAR = self.model(XB)\nRECON, KL = self.terms(XHAT, XB, MU, LOGVAR)\n"
        loop = self.outside(self.loop(self.step(call), self.printed(call), self.every))
        setup = self.outside(self.optimizer("self.model."))
        new = self.outside(self.generation(decode=["XHAT = self.model.decode(ZED)"]))
        sampler = f"\n    def sample(self):\n{_in(new, 2)}        return SHOWN\n" if self.samples else ""
        self.owner = "trainer.model."
        return self._class("Net") + (
            "class Trainer:\n    def __init__(self, model):\n        self.model = model\n\n"
            f"    def terms(self, XHAT, XB, MU, LOGVAR):\n{_in(loss, 2)}        return RECON, KL\n\n"
            f"    def fit(self):\n{_in(setup + loop, 2)}{sampler}\n\n"
            "trainer = Trainer(Net())\ntrainer.fit()\n" + ("new_rows = trainer.sample()\n" if self.samples else "")
        )

    def apart(self) -> str:
        """Encoder and decoder are two modules."""
        p = self.program
        heads = f"self.mu = nn.Linear({p.encoded}, {p.latents})\nself.logvar = nn.Linear({p.encoded}, {p.latents})\n"
        encode = re.sub(r"\bENCODER\b", "self.body", _lines(p.encode))
        encode = re.sub(r"\bTO_MU\b", "self.mu", re.sub(r"\bTO_LV\b", "self.logvar", encode))
        cls = (
            f"class Encoder(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.body = {p.encoder}\n"
            f"{_in(heads, 2)}\n    def forward(self, XB):\n{_in(encode, 2)}        return MU, LOGVAR, H\n\n\n"
        )
        made = f"encoder = Encoder()\ndecoder = {p.decoder}\n" + (
            f"log_sigma = nn.Parameter({p.log_sigma})\n" if self.learned else ""
        )
        losses = "MU, LOGVAR, H = encoder(XB)\n" + _lines([*p.sample, *p.decode]) + self.loss_lines()
        loop = self.loop(self.step(losses), self.printed(losses), self.every)
        new = self.generation() if self.samples else ""
        return cls + self.outside(made + self.optimizer("") + "\n" + loop + "\n" + new)
