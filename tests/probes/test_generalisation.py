"""Sizes of training sets and held-out gaps against what is known of them."""

import math

import pytest
import torch
from test_branch import DATA, MAKE, loss, trained
from torch import nn

from whyvae import watch
from whyvae.probe import Bench
from whyvae.probes.course import Course
from whyvae.probes.court import FIRST_NOISE, Court
from whyvae.probes.generalisation import Generalisation, Pool, _why_not, size_of_set
from whyvae.probes.objective import Objective
from whyvae.watch.subject import Subject


@pytest.mark.parametrize("n", [50, 400, 3000])
def test_size_of_set_from_repeats(n):
    generator = torch.Generator().manual_seed(0)
    found = [size_of_set(len(torch.randint(n, (1500,), generator=generator).unique()), 1500) for _ in range(20)]
    assert sum(found) / len(found) == pytest.approx(n, rel=0.05)


def test_size_without_repeats_is_not_known():
    assert math.isinf(size_of_set(100, 100))


def test_pool_holds_each_recorded_example_once():
    _, subject = trained(MAKE["SGD"], steps=60)
    pool = Pool.of(subject)
    rows = pool.rows[subject.lineage.data]
    assert len(rows) == pool.distinct == len(rows.unique(dim=0))
    assert all(bool((row == DATA).all(1).any()) for row in rows)


def test_few_recorded_of_many_prove_nothing():
    _, subject = trained(MAKE["SGD"], steps=60)
    pool = Pool.of(subject)
    assert pool.distinct < 0.9 * 400  # 24 batches of 16 at most
    assert "more examples than were recorded" in _why_not(Course(subject), pool)


def test_gap_is_the_difference_of_losses():
    model, subject = trained(MAKE["SGD"], steps=60, s=100.0)
    held = DATA[:32] + 5.0  # never trained on, and far off
    data, target = subject.lineage.data, subject.lineage.target
    subject.__dict__["held_out"] = [{data: held[i : i + 16], target: held[i : i + 16]} for i in (0, 16)]
    found = Bench(subject).get(Generalisation)
    costs = []
    for i in (0, 1):
        torch.manual_seed(FIRST_NOISE + i)
        with torch.no_grad():
            costs.append(float(loss(model, held[16 * i : 16 * i + 16], 100.0)))
    known = Court(Course(subject), Bench(subject).get(Objective), subject.train, 1).costs()
    assert found.gap == pytest.approx(sum(costs) / 2 - float(known.mean()), rel=1e-4)
    assert (found.held, found.steps, found.reason) == (32, 0, "")


def test_examples_with_a_common_half_are_different_examples():
    """A conditional VAE whose encoder is shown a part of the example first: the part repeats, the examples do not."""
    torch.manual_seed(0)
    encoder, decoder, whole = nn.Linear(12 + 4, 6), nn.Linear(3 + 4, 12), nn.Linear(12, 4)
    data = torch.cat([torch.randint(0, 2, (400, 3)).float(), torch.randn(400, 9)], 1)
    shown = torch.tensor([1.0] * 3 + [0.0] * 9)
    optimizer = torch.optim.Adam([p for m in (encoder, decoder, whole) for p in m.parameters()])
    with watch() as watcher:
        for _ in range(60):
            x = data[torch.randint(400, (16,))]
            context = whole(x * shown)
            mu, logvar = encoder(torch.cat([x, context], 1)).chunk(2, 1)
            z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
            kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
            optimizer.zero_grad()
            (((decoder(torch.cat([z, context], 1)) - x) ** 2).sum() + kl).backward()
            optimizer.step()
    pool = Pool.of(Subject.of(watcher))
    assert pool is None or pool.distinct > 100  # there are 8 different halves
