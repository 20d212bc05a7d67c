"""Batch norm's two modes against the user's own model in `train()` and `eval()`, and closed forms."""

import copy
import math

import pytest
import torch
from torch import nn

from whyvae.audit.cut import noise_like
from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.copies import CopiedStatistics
from whyvae.probes.normalisation import Normalisation
from whyvae.watch.direct import BATCH, watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

FEATURES, LATENTS, WIDTH = 6, 3, 8


@pytest.fixture(autouse=True)
def _tracebacks(monkeypatch):
    monkeypatch.setenv("WHYVAE_DEBUG", "1")


class Model(nn.Module):
    def __init__(self, norm):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(FEATURES, WIDTH), norm(), nn.Tanh(), nn.Dropout(0.5))
        self.heads = nn.Linear(WIDTH, 2 * LATENTS)
        self.decoder = nn.Sequential(nn.Linear(LATENTS, WIDTH), norm(), nn.Tanh(), nn.Linear(WIDTH, FEATURES))
        self.double()

    def forward(self, x, eps):
        mu, logvar = self.heads(self.encoder(x)).chunk(2, 1)
        return self.decoder(mu + eps * torch.exp(0.5 * logvar)), mu, logvar


def loss(model, x):
    y, mu, logvar = model(x, torch.randn(len(x), LATENTS, dtype=x.dtype))
    return ((y - x).square().sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / len(x)


def rows(batches=3):
    x = torch.randn(batches * BATCH, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.cumsum(1)


def momentless():
    return nn.BatchNorm1d(WIDTH, momentum=0.0)


def dropout_off(model):
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0


def by_hand(model, x, lineage):
    """Share of the variance lost by the module itself in the mode it is in."""
    outputs = [model(batch, noise_like(lineage, i))[0].detach() for i, batch in enumerate(x.split(BATCH))]
    return float((torch.cat(outputs) - x).square().sum() / (x - x.mean(0)).square().sum())


def test_errors_are_those_of_the_module_in_its_two_modes():
    model, x = Model(momentless), rows()
    for layer in (model.encoder[1], model.decoder[1]):
        nn.init.uniform_(layer.running_mean, -1, 1)
        nn.init.uniform_(layer.running_var, 0.2, 3)
    subject = watch_model(model, x, loss)
    found = Bench(subject).get(Normalisation)
    dropout_off(model)
    assert found.training == pytest.approx(by_hand(model.train(), x, subject.lineage), rel=1e-9)
    assert found.evaluation == pytest.approx(by_hand(model.eval(), x, subject.lineage), rel=1e-9)
    assert (found.layers, found.values, found.batch, found.momentum, found.steps) == (2, BATCH, BATCH, 0.0, 0)


def test_renewed_statistics_are_what_torch_averages_to():
    """`momentum=None` averages all batches: the module's own way to statistics of the final weights."""
    model, x = Model(momentless), rows()
    subject = watch_model(model, x, loss)
    found = Bench(subject).get(Normalisation)
    dropout_off(model)
    for layer in (model.encoder[1], model.decoder[1]):
        layer.reset_running_stats()
        layer.momentum = None
    by_hand(model.train(), x, subject.lineage)
    assert found.renewed == pytest.approx(by_hand(model.eval(), x, subject.lineage), rel=1e-9)


def test_drift_is_the_divergence_of_two_gaussians():
    """Running moments are m + sd and 4 v: (1/4 - 1 + log 4 + 1/4) / 2 nats per channel."""
    model, x = Model(momentless), rows(1)
    model.decoder[1] = nn.Identity()
    with torch.no_grad():
        seen = model.encoder[0](x)
        model.encoder[1].running_mean.copy_(seen.mean(0) + seen.std(0))
        model.encoder[1].running_var.copy_(4 * seen.var(0))
    found = Bench(watch_model(model, x, loss)).get(Normalisation)
    assert found.drift == pytest.approx(0.5 * (0.25 - 1 + math.log(4) + 0.25), rel=1e-9)
    assert found.layers == 1


def test_instance_norm_keeps_statistics_of_single_examples():
    def norm():
        return nn.Sequential(
            nn.Unflatten(1, (2, WIDTH // 2)),
            nn.InstanceNorm1d(2, momentum=0.0, track_running_stats=True),
            nn.Flatten(),
        )

    model, x = Model(norm), rows()
    subject = watch_model(model, x, loss)
    found = Bench(subject).get(Normalisation)
    dropout_off(model)
    assert (found.kind, found.layers) == ("instance_norm", 2)
    assert found.training == pytest.approx(by_hand(model.train(), x, subject.lineage), rel=1e-9)
    assert found.evaluation == pytest.approx(by_hand(model.eval(), x, subject.lineage), rel=1e-9)


@pytest.mark.parametrize(
    "norm",
    [nn.Identity, lambda: nn.LayerNorm(WIDTH), lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
     lambda: nn.BatchNorm1d(WIDTH).eval()],
)  # fmt: skip
def test_does_not_apply_without_two_modes(norm):
    with pytest.raises(CannotMeasure, match="does not apply"):
        Bench(watch_model(Model(norm), rows(1), loss)).get(Normalisation)


def trained(momentum, after=lambda model: None):
    model, x = Model(lambda: nn.BatchNorm1d(WIDTH, momentum=momentum)), rows()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with Watcher() as watcher:
        for step in range(60):
            optimizer.zero_grad()
            loss(model, x[torch.arange(64) + step]).backward()
            optimizer.step()
        after(model)
    return Bench(Subject.of(watcher)).get(Normalisation)


def test_a_cumulative_average_is_known_by_its_moving_momentum():
    assert trained(None).cumulative
    found = trained(0.1)
    assert (found.cumulative, found.momentum, found.steps) == (False, 0.1, 60)


def test_statistics_moved_after_training_are_told_from_those_that_always_trailed():
    def spoil(model):
        with torch.no_grad():
            for _ in range(50):
                model(torch.zeros(16, FEATURES).double(), torch.zeros(16, LATENTS).double())

    spoiled, trailing = trained(0.1, spoil), trained(1e-4)
    assert spoiled.drift_then < spoiled.drift / 4
    assert trailing.drift_then > trailing.drift / 4


@pytest.mark.parametrize("buffers", [True, False])
def test_a_copy_without_the_statistics(buffers):
    """What its samples differ by from those of a copy with them, by the modules themselves."""
    model = Model(lambda: nn.BatchNorm1d(WIDTH, momentum=0.5))
    averaged, x = copy.deepcopy(model), rows()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with Watcher() as watcher:
        for _ in range(20):
            optimizer.zero_grad()
            loss(model, x).backward()
            optimizer.step()
            averaged.load_state_dict(dict(model.named_parameters()), strict=False)
        if buffers:
            averaged.load_state_dict(model.state_dict())
        averaged.eval()
        with torch.no_grad():
            z = torch.randn(64, LATENTS, dtype=torch.float64)
            made = averaged.decoder(z)
    found = Bench(Subject.of(watcher)).get(CopiedStatistics)
    meant = model.eval().decoder(z).detach()
    assert (found.layers, found.fresh) == (1, 0 if buffers else 1)
    assert found.changed == pytest.approx(float((made - meant).square().mean() / meant.var(0).mean()), abs=1e-9)
    assert buffers or found.changed > 0.1
