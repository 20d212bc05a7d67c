"""A decoder whose output is 0: the residual is the data, and the ratio is their mean square over the variance claimed."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, StudentT

from whyvae.probe import Bench
from whyvae.probes.decoder_noise import DecoderNoise
from whyvae.watch.direct import watch_model
from whyvae.watch.script import run_script

B, D, L = 32, 6, 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.out = nn.Linear(D, 2 * L), nn.Linear(L, D)
        self.log_sigma, self.each = nn.Parameter(torch.tensor(-1.0)), nn.Parameter(torch.linspace(-1, 1, D))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.double()


X = torch.randn(2 * B, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MEAN_SQUARE = float(X.square().mean())


def measured(nll, weight=1.0, reduce=lambda t: t.sum() / B):
    def loss(m, x):
        mu, logvar = m.heads(x).chunk(2, 1)
        y = m.out(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return reduce(nll(m, y, x)) + weight * reduce(0.5 * (mu**2 + logvar.exp() - 1 - logvar))

    return Bench(watch_model(Net(), [X[:B], X[B:]], loss)).get(DecoderNoise)


def by_hand(m, y, x):
    return 0.5 * ((x - y) / 0.5) ** 2 + math.log(0.5) + 0.5 * math.log(2 * math.pi)


FIXED = {
    "torch.distributions": (lambda m, y, x: -Normal(y, 0.5).log_prob(x), 0.25),
    "gaussian_nll_loss": (lambda m, y, x: F.gaussian_nll_loss(y, x, torch.full_like(x, 0.25), reduction="none"), 0.25),
    "by hand": (by_hand, 0.25),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_scale_is_read(name):
    nll, variance = FIXED[name]
    found = measured(nll)
    assert (found.stated, found.learned, found.per_element) == (True, False, False)
    assert found.variance == pytest.approx(variance, rel=1e-5)
    assert found.ratio == pytest.approx(MEAN_SQUARE / variance, rel=1e-5)


def test_a_student_density_is_fitted_where_its_slope_in_the_scale_vanishes():
    found = measured(lambda m, y, x: -StudentT(4.0, y, 0.5).log_prob(x))
    squares = (X[B:] / 0.5) ** 2
    assert (found.stated, found.learned) == (True, False)
    assert found.ratio == pytest.approx(float((5 * squares / (4 + squares)).mean()), rel=0.1)  # one batch of the two


def test_an_error_without_a_normaliser_states_no_scale():
    assert not measured(lambda m, y, x: 2.5 * torch.log1p((x - y) ** 2)).stated


def test_a_learned_scale():
    found = measured(lambda m, y, x: -Normal(y, m.log_sigma.exp()).log_prob(x))
    assert (found.stated, found.learned) == (True, True)
    assert found.ratio == pytest.approx(MEAN_SQUARE / math.exp(-2), rel=1e-5)


def test_a_scale_for_each_number():
    """The mean of residual^2 / variance over one batch."""
    found = measured(lambda m, y, x: -Normal(y, m.each.exp()).log_prob(x))
    variances = torch.linspace(-1, 1, D, dtype=torch.float64).mul(2).exp()
    assert (found.stated, found.per_element) == (True, True)
    assert found.ratio == pytest.approx(float((X[B:].square() / variances).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("nll", "weight"),
    [(lambda m, y, x: (x - y) ** 2 / (2 * 0.25), 1.0), (FIXED["by hand"][0], 0.3)],
    ids=["no normaliser", "a weight"],
)
def test_a_loss_that_is_no_density_or_not_the_elbo_states_no_scale(nll, weight):
    assert not measured(nll, weight).stated


def test_the_scale_is_stated_however_both_terms_are_summed():
    assert measured(FIXED["by hand"][0], reduce=lambda t: t.sum()).stated
    assert measured(FIXED["by hand"][0], reduce=lambda t: t.sum(1).mean()).stated
    assert not measured(FIXED["by hand"][0], reduce=lambda t: t.mean()).stated  # D / L times less of one


@pytest.mark.parametrize(
    ("bound", "stepped", "moving"),
    [
        ("log_sigma", ", log_sigma", True),
        ("log_sigma.clamp(min=0.0)", ", log_sigma", False),
        ("log_sigma.detach()", ", log_sigma", False),
        ("log_sigma", "", False),
    ],
)
def test_a_scale_on_its_way_and_one_that_something_holds(tmp_path, bound, stepped, moving):
    """Adam moves log sigma by at most its rate a step: after 60 steps it is on its way; a clamp holds it at 0."""
    script = tmp_path / "train.py"
    script.write_text(f"""
import torch
from torch import nn
torch.manual_seed(0)
x = torch.tanh(torch.randn(512, 3) @ torch.randn(3, 10)) * 0.1
encoder, decoder, log_sigma = nn.Linear(10, 6), nn.Linear(3, 10), nn.Parameter(torch.zeros(()))
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(){stepped}], lr=2e-3)
for step in range(60):
    rows = x[torch.randint(512, (64,))]
    mu, logvar = encoder(rows).chunk(2, 1)
    out = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
    scale = {bound}
    nll = (0.5 * ((out - rows) / scale.exp()) ** 2 + scale + 0.9189385332046727).sum()
    loss = (nll + 0.5 * (mu ** 2 + logvar.exp() - 1 - logvar).sum()) / 64
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""")
    subject = run_script(str(script), []).subject
    noise = Bench(subject).get(DecoderNoise)
    assert noise.stated
    assert noise.learned
    assert noise.moving is moving
    assert noise.held is not moving
