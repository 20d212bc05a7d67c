"""The rewind test: it starts where the run started, and tells a ruin from a good end."""

import copy
import math

import pytest
import torch
from test_branch import DATA, MAKE, Model, batch, loss, trained

from whyvae.probe import Bench
from whyvae.probes.course import Course
from whyvae.probes.rewind import Rewind
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher


def fresh():
    torch.manual_seed(3)  # as `trained` does
    return Model()


@pytest.mark.parametrize("steps", [12, 60])
def test_starts_where_the_run_started(steps):
    _, subject = trained(MAKE["SGD"], steps=steps)
    begin = fresh()
    held = {id(subject.tape.slots[i].value): v for i, v in subject.earliest.items()}
    names = {id(p): n for n, p in _owner(subject).items()}
    assert len(held) == 6
    for key, value in held.items():
        assert torch.equal(value, begin.get_parameter(names[key]))


def _owner(subject):
    return {subject.names[id(s.value)].name: s.value for s in subject.tape.slots if s.trainable}


def test_earliest_parameters_of_code_that_makes_them_anew():
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(3)
        model = Model()
        history = []
        for _ in range(12):
            history.append(sorted(float(p.detach().sum()) for p in model.parameters()))
            x = DATA[torch.randint(400, (16,))]
            values = list(model.parameters())
            grads = torch.autograd.grad(loss(model, x), values)
            for module in (model.mu, model.logvar, model.decoder):
                for name in ("weight", "bias"):
                    p = getattr(module, name)
                    g = grads[next(i for i, v in enumerate(values) if v is p)]
                    setattr(module, name, torch.nn.Parameter(p.detach() - 1e-3 * g))
    subject = Subject.of(watcher)
    found = sorted(float(v.sum()) for v in subject.earliest.values())
    assert found in history[:4]


def test_a_course_from_the_start_is_the_run_at_another_rate():
    _, subject = trained(MAKE["SGD"])
    feed, course, mine = subject.train[0], Course(subject), fresh()
    optimizer = torch.optim.SGD(mine.parameters(), lr=1e-4)
    with course.branched(subject.earliest):
        for done in course.train([feed], 0.1):
            torch.manual_seed(done - 1)
            optimizer.zero_grad()
            loss(mine, batch(subject, feed)).backward()
            optimizer.step()
            if done == 5:
                break
        ends = sorted(float(p.detach().sum()) for p in subject.replay.parameters.values())
    assert ends == pytest.approx(sorted(float(p.detach().sum()) for p in mine.parameters()), rel=1e-9)


def test_a_good_end_is_not_reached_by_a_tenth_of_the_rate():
    _, subject = trained(lambda p: torch.optim.Adam(p, lr=1e-2), steps=300)
    rewind = Bench(subject).get(Rewind)
    assert (rewind.users, rewind.reason, len(rewind.arms)) == (None, "", 1)
    assert rewind.best.gain < 0


def test_a_broken_run_breaks_again_at_its_rate():
    _, subject = trained(lambda p: torch.optim.SGD(p, lr=0.5), steps=60)
    assert subject.broken
    rewind = Bench(subject).get(Rewind)
    assert rewind.users.gain < 0 or not math.isfinite(rewind.users.gain)
    assert rewind.best.sure > 0


def test_parameters_stay_what_they_were():
    model, subject = trained(lambda p: torch.optim.Adam(p, lr=1e-2), steps=60)
    before = copy.deepcopy(model.state_dict())
    Bench(subject).get(Rewind)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    held = {id(subject.tape.slots[i].value): v for i, v in subject.replay.parameters.items()}
    assert all(torch.equal(held[id(p)], p) for p in model.parameters())
