"""The weight that was written, read back from the recorded steps."""

import pytest
import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.schedule import Schedule
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

STEPS, S = 60, 0.5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads, self.out = nn.Linear(6, 4), nn.Linear(2, 6)


def shifted(rows):
    """Some of the examples, as many as fall to it, are moved."""
    moved, some = torch.empty_like(rows), torch.rand(len(rows)) < 0.5
    moved[some], moved[~some] = rows[some] + 0.1, rows[~some]
    return moved


def measured(weight, scale=lambda model: 1.0, augmented=lambda rows: rows):
    """A run whose KL has `weight(step)` beside squared errors at the noise variance S."""
    torch.manual_seed(0)
    model, x = Net(), torch.randn(64, 6)
    model.register_parameter("log_scale", nn.Parameter(torch.zeros(())))
    with Watcher(budget=100.0) as watcher:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(STEPS):
            rows = augmented(x[torch.randint(64, (16,))])
            mu, logvar = model.heads(rows).chunk(2, 1)
            y = model.out(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
            loss = (y - rows).square().sum() / (2 * S) * scale(model) + weight(step) * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Bench(Subject.of(watcher)).get(Schedule)


@pytest.mark.parametrize("slope", [0.001, 1.0])
def test_a_ramp_is_read_point_by_point(slope):
    found = measured(lambda step: slope * step)
    assert len(found.points) >= 5
    for step, s in found.points:
        assert s == pytest.approx(S * slope * step, rel=1e-6)
    end, late = found.points[-1][0], found.points[-1][0] / found.late_change
    assert 0.45 * end <= late <= 0.9 * end
    assert found.count == STEPS
    assert found.at_end == pytest.approx(S * slope * STEPS, rel=1e-6)
    assert found.steps_until(S * slope * (STEPS + 100)) == pytest.approx(100, rel=1e-6)


def test_batches_of_which_a_mask_picks_more_or_less_are_of_one_program():
    assert measured(lambda step: 0.01 * step, augmented=shifted).late_change == pytest.approx(1.5, rel=0.3)


def test_a_constant_weight_is_read_twice():
    found = measured(lambda _: 0.3)
    assert [s for _, s in found.points] == pytest.approx([0.3 * S] * 2, rel=1e-6)
    assert found.late_change == pytest.approx(1.0, rel=1e-6)


def test_a_schedule_that_has_arrived():
    assert measured(lambda step: min(1.0, step / 20)).late_change == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(("between", "rests"), [(0.2, True), (0.18, False), (0.15, False), (0.199, True)])
def test_a_schedule_that_arrived_in_the_last_third(between, rests):
    """A straight ramp to 0.2 at step 300 stands at 0.18 at step 270; one that arrives at step 240, at 0.2."""
    assert Schedule(((0, 0.0), (200, 0.1333), (300, 0.2)), 300).rests_from(270, between) is rests


def test_zero_is_a_weight():
    found = measured(lambda step: 0.0 if step < 50 else 1e-3)
    assert found.late_change == float("inf")
    assert found.lowest == 0


def test_a_scale_that_learns_is_no_schedule():
    """s is read at the scale of the end: a constant weight is constant, and a ramp a ramp."""
    learned = lambda model: model.log_scale.exp()  # noqa: E731
    assert measured(lambda _: 0.3, learned).late_change == pytest.approx(1.0, rel=1e-6)
    found = measured(lambda step: 0.01 * step, learned)
    (start, first), *_, (end, last) = found.points
    assert first / last == pytest.approx(start / end, rel=1e-6)
