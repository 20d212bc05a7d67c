"""Sizes of training sets and held-out gaps against what is known of them."""

import math

import pytest
import torch
from test_branch import DATA, MAKE, loss, trained

from whyvae.probe import Bench
from whyvae.probes.course import Course
from whyvae.probes.court import FIRST_NOISE, Court
from whyvae.probes.generalisation import Generalisation, Pool, _why_not, size_of_set
from whyvae.probes.objective import Objective


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
