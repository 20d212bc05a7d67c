"""Terms that add errors up before they make them positive, and terms that look unusual and see every number."""

import pytest
import torch

from whyvae.probe import Bench
from whyvae.probes.objective import Objective
from whyvae.probes.sight import TRIES, Sight
from whyvae.testing import Patient, kl

FEATURES = 12  # of the patient's data


def normalised(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def measured(term):
    """`term(error, x)`: the reconstruction term, summed over examples."""
    patient = Patient(loss=lambda out, x, mu, logvar: (term(out - x, x) + kl(mu, logvar)) / len(x), steps=12)
    bench = Bench(patient.train())
    return bench.get(Sight), bench.get(Objective)


@pytest.mark.parametrize(
    ("term", "told_apart", "summed"),
    [
        (lambda e, x: (e.sum(1) ** 2).sum(), 1, (1,)),
        (lambda e, x: e.sum(1).abs().sum(), 1, (1,)),
        (lambda e, x: e.mean(1).pow(4).sum(), 1, (1,)),
        (lambda e, x: (e.view(len(e), 4, 3).sum(2) ** 2).sum(), 4, ()),
        (lambda e, x: (e.mean(0) ** 2).sum(), 12, (0,)),
        (lambda e, x: (e @ torch.linspace(1.0, 2.0, FEATURES)).abs().sum(), 1, ()),
    ],
    ids=["squared", "absolute", "fourth power", "in threes", "over examples", "weighted"],
)
def test_blind(term, told_apart, summed):
    sight, _ = measured(term)
    assert sight.blind
    assert (sight.told_apart, sight.touched, sight.summed) == (told_apart, FEATURES, summed)


@pytest.mark.parametrize(
    "term",
    [
        lambda e, x: -torch.cosine_similarity(e + x, x, dim=1).sum(),
        lambda e, x: ((normalised(e + x) * normalised(x)).sum(1) - 1).pow(2).sum(),
        lambda e, x: -(x.softmax(1) * (e + x).log_softmax(1)).sum(),
        lambda e, x: e.cumsum(1).abs().sum(),  # Wasserstein on a line
        lambda e, x: torch.fft.rfft(e, dim=1).abs().sum(),
        lambda e, x: (e * (x > 0))[:, :5].pow(4).sum(),  # what is missing does not count
        lambda e, x: (e * torch.logspace(0, 9, FEATURES)).pow(4).sum() / 1e20,  # units of their own
        lambda e, x: (e.sum(1) ** 2).sum() + e.pow(4).sum(),
    ],
    ids=["cosine", "angle", "soft classes", "cumulated", "spectrum", "masked", "units", "and each"],
)
def test_unusual_terms_that_see_all(term):
    sight, objective = measured(term)
    assert objective.family in {"unknown", "density", "categorical"}
    assert not sight.blind
    assert sight.told_apart == min(TRIES, sight.touched)


def test_a_known_likelihood_needs_no_try():
    sight, objective = measured(lambda e, x: 50 * e.square().sum())
    assert objective.family == "gaussian"
    assert sight == Sight()
