"""One training step recorded and audited, and the small VAEs that these tests train."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from whyvae.audit.likelihood import Likelihood, audit_likelihood
from whyvae.audit.regulariser import Regulariser, audit_regulariser
from whyvae.probe import Bench
from whyvae.probes.objective import Objective
from whyvae.watch.lineage import Lineage, NoVAE, find, find_deterministic
from whyvae.watch.recorder import Recorder
from whyvae.watch.replay import Replay
from whyvae.watch.step import Log, Step
from whyvae.watch.subject import Subject
from whyvae.watch.tape import Tape

B, D, d = 16, 12, 3  # batch, features, latents
KL_SHARE = D / (2 * d)


@dataclass
class Audited:
    tape: Tape
    lineage: Lineage
    replay: Replay
    likelihood: Likelihood | None
    regulariser: Regulariser

    @property
    def s(self):
        """The weight of the KL over the scale of the likelihood"""
        return self.regulariser.weight / self.likelihood.scale

    def subject(self):
        step = Step(self.tape, 0, 0.0)
        return Subject(
            [step], step, self.lineage, Log(), optimizers=[], held_out_inputs=[], decoded=[],
            shown=[], count=1, names={},
        )  # fmt: skip

    def measure(self, probe):
        return Bench(self.subject()).get(probe)

    def objective(self):
        return self.measure(Objective)


def record(step, *args):
    """(tape, losses) of one call; what it returns is what `backward` would be called on."""
    recorder = Recorder()
    with recorder:
        losses = step(*args)
    losses = losses if isinstance(losses, tuple) else (losses,)
    recorder.tape.roots.extend(recorder.slot_of(loss) for loss in losses)
    assert recorder.error is None
    return recorder.finished(), losses


def audit(step, *args):
    tape, _ = record(step, *args)
    try:
        lineage = find(tape)
    except NoVAE:
        lineage = find_deterministic(tape)
    replay = Replay(tape)
    return Audited(tape, lineage, replay, audit_likelihood(lineage, replay), audit_regulariser(lineage, replay))


@dataclass
class Case:
    """A step to record. `expected` is its s, or a function that is given the audit."""

    name: str
    loss: object
    model: object
    data: object
    expected: object

    def build(self, seed=0):
        """(step, data): the step takes the data."""
        torch.manual_seed(seed)
        model, data = self.model(), self.data()
        return (
            (lambda *x: self.loss(model, *x)),
            data if isinstance(data, tuple) else (data,),
            model,
        )


def collector(cases):
    """A decorator that files a loss function under its own name."""

    def file_under(expected, *, model=None, data=None):
        def keep(loss):
            name = loss.__name__.rstrip("_")
            assert name not in {c.name for c in cases}, f"two cases are called {name}"
            cases.append(Case(name, loss, model or VAE, data or pixels, expected))
            return loss

        return keep

    return file_under


def pixels():
    return torch.rand(B, D)


def images():
    return torch.rand(B, 1, 8, 8)


def labelled():
    return torch.rand(B, D), F.one_hot(torch.arange(B) % 4, 4).float()


def tokens():
    return torch.randint(0, 7, (B, 5))


class VAE(nn.Module):
    """A VAE of two layers each way; `enc` gives two heads, mu and usually the log-variance."""

    def __init__(self, *, norm=False, sigmoid=False, drop=0.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(D, 24),
            nn.BatchNorm1d(24) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(drop),
        )
        self.head = nn.Linear(24, 2 * d)
        self.decoder = nn.Sequential(
            nn.Linear(d, 24),
            nn.BatchNorm1d(24) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(drop),
            nn.Linear(24, D),
            nn.Sigmoid() if sigmoid else nn.Identity(),
        )
        self.log_scale = nn.Parameter(torch.tensor(-0.7))

    def enc(self, x):
        return self.head(self.body(x)).chunk(2, 1)

    def forward(self, x):
        mu, logvar = self.enc(x)
        return self.decoder(reparameterise(mu, logvar)), mu, logvar


class Bag(nn.Module):
    """Tokens in, logits (B, 5, 7) out."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 8), nn.Linear(8, 2 * d)
        self.decoder = nn.Sequential(nn.Linear(d, 16), nn.ReLU(), nn.Linear(16, 35), nn.Unflatten(1, (5, 7)))

    def forward(self, x):
        mu, lv = self.head(self.embed(x).mean(1)).chunk(2, -1)
        return self.decoder(reparameterise(mu, lv)), mu, lv


def probabilities():
    return VAE(sigmoid=True)


def reparameterise(mu, logvar):
    return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)


def kl_sum(mu, logvar):
    return -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())


def sse(output, x):
    return F.mse_loss(output, x, reduction="sum")
