"""The branch test against plain torch: the same steps, the same losses, worked out from the outside."""

import copy
import math

import pytest
import torch
from linear import LinearVAE
from torch import nn
from torch.nn import functional as F

from whyvae.probe import Bench
from whyvae.probes.branch import Arm, BranchTest, _arms, judged_course
from whyvae.probes.course import Course, moved_per_step
from whyvae.probes.court import FIRST_NOISE, Court
from whyvae.probes.objective import Objective, audited_likelihood
from whyvae.testing import Patient, digits, kl
from whyvae.watch.direct import watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

FEATURES, BATCH = 5, 16
DATA = torch.randn(400, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
MAKE = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-3),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.5, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.5, 0.9)),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu, self.logvar, self.decoder = nn.Linear(FEATURES, 2), nn.Linear(FEATURES, 2), nn.Linear(2, FEATURES)
        self.double()

    def forward(self, x):
        mu, logvar = self.mu(x), self.logvar(x)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


def loss(model, x, s=0.5):
    y, mu, logvar = model(x)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    return ((y - x).square().sum() / (2 * s) + kl) / len(x)


def trained(make, steps=10, s=0.5):
    """(the model as it ended, its subject)."""
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(3)
        model = Model()
        optimizer = make(list(model.parameters()))
        for _ in range(steps):
            x = DATA[torch.randint(400, (BATCH,))]
            optimizer.zero_grad()
            loss(model, x, s).backward()
            optimizer.step()
    return model, Subject.of(watcher)


def batch(subject, feed):
    return subject.replay.run([subject.lineage.data], feed=feed)[subject.lineage.data]


@pytest.mark.parametrize("name", ["SGD", "SGD with momentum"])
def test_a_course_takes_the_steps_torch_takes(name):
    model, subject = trained(MAKE[name])
    feed = subject.train[0]
    course = Course(subject)
    mine = copy.deepcopy(model)
    mine.zero_grad()
    torch.manual_seed(40_000)
    loss(mine, batch(subject, feed)).backward()  # what `prime` looks at
    optimizer = MAKE[name](list(mine.parameters()))
    if "momentum" in name:
        for p in mine.parameters():
            optimizer.state[p]["momentum_buffer"] = p.grad.clone() / (1 - 0.5)
    with course.branched():
        course.prime([feed])
        for done in course.train([feed], 1.0):
            torch.manual_seed(done - 1)
            optimizer.zero_grad()
            loss(mine, batch(subject, feed)).backward()
            optimizer.step()
            if done == 7:
                break
        theirs = {id(subject.tape.slots[i].value): p.detach().clone() for i, p in subject.replay.parameters.items()}
    for before, after in zip(model.parameters(), mine.parameters(), strict=True):
        assert torch.allclose(theirs[id(before)], after, rtol=1e-10, atol=1e-13)
        assert not torch.allclose(before, after, rtol=1e-6)
    held = {id(subject.tape.slots[i].value): p for i, p in subject.replay.parameters.items()}
    assert all(torch.equal(held[id(p)], p) for p in model.parameters())


@pytest.mark.parametrize("name", MAKE)
def test_every_optimiser_is_met_with_its_settings(name):
    _, subject = trained(MAKE[name])
    course = Course(subject)
    assert course.optimizer.__name__ == name.split()[0]
    assert course.rate == 1e-3
    assert course.settings.get("betas") == ((0.5, 0.9) if name == "Adam" else None)
    with course.branched():
        course.prime(subject.train[:3])
        steps = course.train(subject.train[:3], 1.0)
        assert [next(steps) for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("s", [0.5, 100.0, 1e-4])
def test_gains_in_nats(s):
    """Above the error, s is the loss's own; below it, errors count by their logarithm, and the KL by s over the error."""
    model, subject = trained(lambda p: torch.optim.SGD(p, lr=1e-7), s=s)
    objective, course = Bench(subject).get(Objective), Course(subject)
    feeds = subject.train[:2]
    court = Court(course, objective, feeds, 1)
    better = copy.deepcopy(model)
    with course.branched(), torch.no_grad():
        for p in better.parameters():
            p.mul_(0.5)
        for p in subject.replay.parameters.values():
            p.mul_(0.5)
        found = court.gained()
    step = audited_likelihood(subject)  # of the recorded step
    weight = min(1.0, s / float((step.output - step.target).square().mean()))
    for i, feed in enumerate(feeds):
        x, values = batch(subject, feed), []
        for m in (model, better):
            torch.manual_seed(FIRST_NOISE + i)
            with torch.no_grad():
                y, mu, logvar = m(x)
            sse = float((y - x).square().sum()) / BATCH
            kl = float(-0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / BATCH
            v = max(s, sse / FEATURES)  # the best variance that is not below s
            values.append(FEATURES / 2 * math.log(v) + sse / (2 * v) + weight * kl)
        assert float(found[i]) == pytest.approx(values[0] - values[1], rel=1e-5, abs=1e-7)


def test_achieved_is_against_the_mean():
    model, subject = trained(MAKE["SGD"], steps=200, s=100.0)
    court = Court(Course(subject), Bench(subject).get(Objective), subject.train, 1)
    x = torch.stack([batch(subject, feed) for feed in subject.train])
    without = float((x - x.flatten(0, 1).mean(0)).square().sum(2).mean()) / 200
    now = []
    for i, rows in enumerate(x):
        torch.manual_seed(FIRST_NOISE + i)
        with torch.no_grad():
            now.append(float((model(rows)[0] - rows).square().sum(1).mean()) / 200)
    assert court.achieved() == pytest.approx(without - sum(now) / len(now), rel=1e-6, abs=1e-9)


def test_rates_far_above_are_tried_while_they_gain_more(monkeypatch):
    gains = {0.1: 0.0, 1.0: 0.1, 3.0: 0.4, 10.0: 2.0, 30.0: 5.0, 100.0: 4.0, 300.0: 3.0}
    monkeypatch.setattr("whyvae.probes.branch._arm", lambda court, fit, f, steps: Arm(f, f, (gains[f],), 0.01))
    assert [arm.factor for arm in _arms(None, [], 10)] == [0.1, 1.0, 3.0, 10.0, 30.0, 100.0]
    gains[3.0] = -1.0
    assert [arm.factor for arm in _arms(None, [], 10)] == [0.1, 1.0, 3.0]


def test_rate_of_steps_taken_by_hand():
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(0)
        model = Model()
        for _ in range(12):
            loss(model, DATA[:BATCH]).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.02
                    p.grad = None
    assert moved_per_step(Subject.of(watcher)) == pytest.approx(0.02, rel=1e-9)


def test_a_trained_model_alone_cannot_be_branched():
    torch.manual_seed(0)
    model = LinearVAE(FEATURES, 2)
    nn.init.normal_(model.decoder.weight)
    subject = watch_model(model, torch.randn(1024, FEATURES, dtype=torch.float64), loss)
    assert Bench(subject).get(BranchTest).reason.startswith("does not apply")


def test_offered_is_what_principal_components_leave():
    _, subject = trained(MAKE["SGD"], steps=200, s=100.0)
    court = Court(Course(subject), Bench(subject).get(Objective), subject.train, 1)
    rows = torch.cat([batch(subject, feed) for feed in subject.train])
    values = torch.linalg.svdvals(rows - rows.mean(0)).square() / len(rows)
    assert court.offered() == pytest.approx(float(values[:2].sum()) / 200, rel=1e-4)


@pytest.mark.parametrize(("weight", "whole"), [(1.0, True), (0.01, False)])
def test_nats_of_a_variance_that_is_learned_are_what_they_are_unless_the_kl_is_light(weight, whole):
    """A standard deviation of 0.2 that has yet to be learned says nothing of the KL; a weight of 0.01 does."""
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(3)
        model, scale = Model(), nn.Parameter(torch.tensor(-1.6, dtype=torch.float64))
        optimizer = torch.optim.SGD([*model.parameters(), scale], lr=1e-7)
        for _ in range(8):
            x = DATA[torch.randint(400, (BATCH,))]
            y, mu, logvar = model(x)
            nll = ((y - x).square() / (2 * torch.exp(2 * scale)) + scale).sum() / BATCH
            optimizer.zero_grad()
            (nll + weight * kl(mu, logvar) / BATCH).backward()
            optimizer.step()
    subject = Subject.of(watcher)
    objective = Bench(subject).get(Objective)
    assert objective.learned_scale
    assert (Court(Course(subject), objective, subject.train[:1], 1).kl_weight == 1) is whole


def test_courts_over_different_batches_judge_alike():
    """A held-out loss is compared with a training loss: both in the same nats, however the errors differ."""
    _, subject = trained(lambda p: torch.optim.SGD(p, lr=1e-7), s=1e-4)
    objective, course = Bench(subject).get(Objective), Course(subject)
    easy, hard = subject.train[0], {k: 3 * v for k, v in subject.train[1].items()}
    assert Court(course, objective, [easy], 1).kl_weight == Court(course, objective, [hard], 1).kl_weight


def test_a_loss_that_refuses_what_is_no_number_ends_a_course():
    def cross_entropy(output, x, mu, logvar):
        return (F.binary_cross_entropy(output, x, reduction="sum") + kl(mu, logvar)) / x.shape[0]

    subject = Patient(data=digits(), output=torch.sigmoid, loss=cross_entropy, steps=60).train()
    court = Court(Course(subject), Objective.measure(subject), subject.train[1::3], 1)
    with court.course.branched():
        diverged = judged_course(court, subject.train[::3], 1e12, 50)
    assert diverged.gain == -math.inf


@pytest.mark.parametrize("name", ["SGD with momentum", "Adam"])
def test_a_costly_step_is_trained_on_in_single_precision_to_the_same_parameters(name, monkeypatch):
    ended = {}
    _, subject = trained(MAKE[name])
    for dtype, costly in ((torch.float64, math.inf), (torch.float32, 0)):
        monkeypatch.setattr("whyvae.watch.subject.COSTLY", costly)
        subject.__dict__.pop("trial_replay", None)
        course, noise = Course(subject), torch.Generator().manual_seed(3)
        shape = subject.tape.slots[subject.lineage.eps].shape
        feeds = [{**f, subject.lineage.eps: torch.randn(shape, generator=noise)} for f in subject.train]
        assert course.replay.dtype == dtype
        with course.branched():
            next(step for step in course.train(feeds, 1.0) if step >= 20)
            ended[dtype] = [p.detach().double() for p in course.replay.parameters.values()]
    for one, two in zip(*ended.values(), strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-5)
