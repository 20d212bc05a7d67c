"""Several latents drawn side by side are one: the same numbers, and everything known of one latent holds for them."""

import pytest
import torch
from torch import nn

from whyvae.probes.objective import Objective
from whyvae.testing import factors, kl
from whyvae.watch.draws import SIDE_BY_SIDE
from whyvae.watch.replay import Replay
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

SIGMA2 = 0.02


class Pair(nn.Module):
    """Latents of 3 and 2 units; `made` says how the decoder gets them."""

    def __init__(self, made):
        super().__init__()
        self.made = made
        self.body, self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 6), nn.Linear(16, 4)
        self.shared, self.left, self.right = nn.Linear(5, 12), nn.Linear(3, 12), nn.Linear(2, 12)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return self.made(self, h)


def sample(mu, logvar):
    return mu + torch.randn_like(mu) * (0.5 * logvar).exp()


def together(model, h):
    m1, l1 = model.first(h).chunk(2, 1)
    m2, l2 = model.second(h).chunk(2, 1)
    z = torch.cat([sample(m1, l1), sample(m2, l2)], 1)
    return model.shared(z), (m1, l1), (m2, l2)


def each_its_decoder(model, h):
    """The first is decoded before the second is drawn."""
    m1, l1 = model.first(h).chunk(2, 1)
    left = model.left(sample(m1, l1))
    m2, l2 = model.second(h).chunk(2, 1)
    return left + model.right(sample(m2, l2)), (m1, l1), (m2, l2)


def one_behind_the_other(model, h):
    m1, l1 = model.first(h).chunk(2, 1)
    z1 = sample(m1, l1)
    m2, l2 = model.second(torch.tanh(nn.functional.pad(model.left(z1), (0, 4)))).chunk(2, 1)
    return model.left(z1) + model.right(sample(m2, l2)), (m1, l1), (m2, l2)


def trained(made, weights=(1.0, 1.0), steps=4):
    torch.manual_seed(0)
    data, model = factors(), Pair(made)
    optimizer = torch.optim.Adam(model.parameters())
    with Watcher() as watcher:
        for _ in range(steps):
            x = data[torch.randperm(len(data))[:64]]
            output, one, two = model(x)
            divergence = weights[0] * kl(*one) + weights[1] * kl(*two)
            optimizer.zero_grad()
            ((output - x).square().sum() / (2 * SIGMA2) + divergence).div(64).backward()
            optimizer.step()
    return watcher


@pytest.mark.parametrize("made", [together, each_its_decoder])
def test_what_is_rewritten_gives_the_same_numbers(made):
    watcher = trained(made)
    before, subject = watcher.steps[-1].tape, Subject.of(watcher)
    noises = [o for op in before.ops if op.random for o in op.outs]
    eps = torch.randn(64, 5, dtype=torch.float64)
    alike = dict(zip(noises, eps.split([3, 2], 1), strict=True))
    with torch.no_grad():
        (loss,) = Replay(before).run(before.roots, feed=alike).values()
        (again,) = Replay(subject.tape).run(subject.tape.roots, feed={subject.lineage.eps: eps}).values()
    assert subject.main.tape is not before
    assert float(again) == float(loss)


@pytest.mark.parametrize("made", [together, each_its_decoder])
def test_two_latents_are_audited_as_one(made):
    subject = Subject.of(trained(made))
    objective = Objective.measure(subject)
    assert (subject.lineage.posterior, subject.lineage.latents, subject.batch) == ("diagonal Gaussian", 5, 64)
    assert (objective.regulariser.form, objective.not_auditable) == ("exact", "")
    assert objective.noise_variance == pytest.approx(SIGMA2, rel=1e-6)
    assert not subject.limits()


def test_their_kls_may_have_weights_of_their_own():
    regulariser = Objective.measure(Subject.of(trained(together, (1.0, 4.0)))).regulariser
    assert (regulariser.form, regulariser.uneven) == ("exact", True)
    assert regulariser.weight * 64 == pytest.approx(1, rel=1e-6)


def test_a_hierarchy_is_left_as_it_is():
    subject = Subject.of(trained(one_behind_the_other))
    assert subject.lineage.posterior == "hierarchy"
    assert not any(op.name == SIDE_BY_SIDE for op in subject.tape.ops)


def test_a_single_latent_is_left_as_it_is():
    def single(model, h):
        m1, l1 = model.first(h).chunk(2, 1)
        return model.left(sample(m1, l1)), (m1, l1), (m1, l1)

    watcher = trained(single)
    assert Subject.of(watcher).tape is watcher.steps[-1].tape
