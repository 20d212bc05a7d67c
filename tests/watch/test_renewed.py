"""Parameters stepped by hand: in place, through `.data`, or made anew; followed to the end of the run all the same."""

import pytest
import torch
from torch import nn

from whyvae.probes.course import moved_per_step
from whyvae.watch.renewed import variables
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

WIDE, HIDDEN, UNITS, STEPS, RATE = 12, 16, 3, 24, 1e-2


def init():
    shapes = [(WIDE, HIDDEN), (HIDDEN,), (HIDDEN, 2 * UNITS), (UNITS, HIDDEN), (HIDDEN,), (HIDDEN, WIDE)]
    return [(torch.randn(s) / s[0] ** 0.5).requires_grad_() for s in shapes]


def loss_of(p, x):
    mu, logvar = (torch.tanh(x @ p[0] + p[1]) @ p[2]).chunk(2, 1)
    z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
    y = torch.tanh(z @ p[3] + p[4]) @ p[5]
    return ((y - x).square().sum() - 0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()) / len(x)


def through_data(p, x):
    loss_of(p, x).backward()
    for a in p:
        a.data -= RATE * a.grad
        a.grad.zero_()
    return p


def asked_for_and_made_anew(p, x):
    gradients = torch.autograd.grad(loss_of(p, x), p)
    return [(a - RATE * g).detach().requires_grad_() for a, g in zip(p, gradients, strict=True)]


def made_anew_from_grad(p, x):
    loss_of(p, x).backward()
    with torch.no_grad():
        new = [a - RATE * a.grad for a in p]
    for a in new:
        a.requires_grad_()
    return new


def made_anew_without_history(p, x):
    loss_of(p, x).backward()
    return [(a.detach() - RATE * a.grad).requires_grad_() for a in p]


def functional_vjp(p, x):
    """Torch's own older functional gradients, of plain tensors."""
    _, gradients = torch.autograd.functional.vjp(lambda *p: loss_of(p, x), tuple(a.detach() for a in p))
    return [a.detach() - RATE * g for a, g in zip(p, gradients, strict=True)]


STYLES = [through_data, asked_for_and_made_anew, made_anew_from_grad, made_anew_without_history, functional_vjp]


def run(step, watcher=None):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        p, x, way = init(), torch.randn(64, UNITS) @ torch.randn(UNITS, WIDE), []
        if watcher is not None:
            watcher.__enter__()
        for _ in range(STEPS):
            way.append([a.detach().clone() for a in p])
            p = step(p, x[torch.randperm(64)[:16]])
        if watcher is not None:
            watcher.__exit__(None, None, None)
        return p, way


@pytest.mark.parametrize("step", STYLES, ids=lambda f: f.__name__)
def test_the_same_bits_with_and_without_us(step):
    watcher = Watcher(budget=1.0)
    alone, watched = run(step)[0], run(step, watcher)[0]
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    assert watcher.error is None


@pytest.mark.parametrize("step", STYLES, ids=lambda f: f.__name__)
def test_followed_to_the_end_of_the_run(step):
    watcher = Watcher(ratio=1.3)
    p, way = run(step, watcher)
    subject = Subject.of(watcher)

    assert subject.lineage.posterior == "diagonal Gaussian"
    assert subject.main.index > STEPS / 2
    assert len(subject.train) >= 5
    trained = [s for s in subject.tape.slots if s.trainable and s.value is not None]
    ended = p if step is through_data else way[-1]  # what was made after the last backward is out of reach
    found = {tuple(s.shape): [] for s in trained}
    for slot in trained:
        found[tuple(slot.shape)].append(slot.value)
    assert len(trained) == len(p)
    for a in ended:
        assert any(torch.equal(a, b) for b in found[tuple(a.shape)])

    for recorded in subject.steps[1:]:  # each began with the values it had then
        values = list(recorded.parameters.values())
        for a in way[recorded.index]:
            assert any(torch.equal(a, b) for b in values)
    assert moved_per_step(subject) > 0


def test_data_that_require_gradients_are_no_parameters():
    with torch.random.fork_rng(), Watcher(ratio=1.3) as watcher:
        torch.manual_seed(0)
        p, x = init(), torch.randn(64, WIDE)
        for _ in range(6):
            rows = x[torch.randperm(64)[:16]].requires_grad_()
            loss_of(p, rows).backward()
            with torch.no_grad():
                for a in p:
                    a -= RATE * a.grad
                    a.grad = None
    shapes = {tuple(s.shape) for s in Subject.of(watcher).tape.slots if s.trainable}
    assert shapes == {tuple(a.shape) for a in p}


def test_variables_stand_in_the_order_of_the_program():
    p, x = init(), torch.randn(8, WIDE)
    first = variables(loss_of(p, x))
    anew = [a.detach().clone().requires_grad_() for a in p]
    second = variables(loss_of(anew, x))
    place = {id(a): i for i, a in enumerate(p)}
    assert sorted(place[id(a)] for a in first) == list(range(len(p)))
    assert [place[id(a)] for a in first] == [[id(b) for b in anew].index(id(a)) for a in second]


class Signed(torch.optim.Optimizer):
    """Somebody's own, whose rate has another name."""

    def __init__(self, parameters):
        super().__init__(parameters, {"pace": RATE})

    @torch.no_grad()
    def step(self, closure=None):
        for a in self.param_groups[0]["params"]:
            a.sub_(RATE * a.grad.sign())


def test_an_optimiser_without_a_learning_rate():
    with torch.random.fork_rng(), Watcher(ratio=1.3) as watcher:
        torch.manual_seed(0)
        p, x = [nn.Parameter(a.detach()) for a in init()], torch.randn(64, WIDE)
        optimizer = Signed(p)
        for _ in range(6):
            optimizer.zero_grad()
            loss_of(p, x[torch.randperm(64)[:16]]).backward()
            optimizer.step()
    subject = Subject.of(watcher)
    assert watcher.error is None
    assert (subject.optimizers[0].name, subject.optimizers[0].lr) == ("Signed", 0.0)
    assert moved_per_step(subject) == pytest.approx(RATE, rel=1e-3)
