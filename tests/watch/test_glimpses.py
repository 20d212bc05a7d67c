"""What enters the encoder in steps that are not recorded."""

import pytest
import torch

from whyvae.watch import glimpses
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

DATA = torch.arange(480.0).reshape(120, 4) / 100  # no two rows are the same
LABELS = torch.arange(120.0).reshape(120, 1) / 120


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch):
    """Other tests of this process may have compiled something, and then nothing is looked at."""
    monkeypatch.setattr(glimpses, "compiling", lambda: False)


def test_compiled_steps_are_left_alone(monkeypatch):
    monkeypatch.setattr(glimpses, "compiling", lambda: True)
    assert trained(as_it_is)[0].glimpses.kept == []


def as_it_is(x, labels):
    return x, x


def in_another_shape(x, labels):
    return x, x.reshape(2, -1).clone().reshape(x.shape)


def made_in_the_step(x, labels):
    return x, 2 * x - 1


def with_labels(x, labels):
    return torch.cat([x, labels], 1), x


def with_noise(x, labels):
    return x + 0.1 * torch.randn_like(x), x


def spoilt_beforehand(x, labels):
    with torch.no_grad():
        return x + torch.rand(x.shape), x


def trained(views, steps=60, *, watched=True):
    """(watcher, [(what the encoder was shown, target)])"""
    shown = []
    watcher = Watcher(budget=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        given, _ = views(DATA[:5], LABELS[:5])
        encoder, decoder = torch.nn.Linear(given.shape[1], 4), torch.nn.Linear(2, 4)
        optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=1e-4)

        def train():
            for _ in range(steps):
                rows = torch.randint(0, 100, (5,))
                given, target = views(DATA[rows], LABELS[rows])
                shown.append((given.clone(), target.clone()))
                mu, logvar = encoder(given).chunk(2, 1)
                y = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
                loss = (y - target).square().sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    encoder(views(DATA[100:105], LABELS[100:105])[0])

        if watched:
            with watcher:
                train()
        else:
            train()
    return watcher, shown, encoder.weight.detach()


@pytest.mark.parametrize("views", [as_it_is, in_another_shape, made_in_the_step])
def test_further_feeds_are_steps_between_the_recorded_ones(views):
    watcher, shown, _ = trained(views)
    subject = Subject.of(watcher)
    recorded = {step.index for step in subject.steps}
    assert len(subject.further) == len(subject.glimpses) >= 12
    wanted, last = [subject.lineage.data, subject.lineage.target], -1
    for feed in subject.further:
        seen = subject.replay.run(wanted, feed=feed)
        which = [
            i for i, pair in enumerate(shown)
            if all(torch.allclose(seen[s], v.double()) for s, v in zip(wanted, pair, strict=True))
        ]  # fmt: skip
        assert len(which) == 1
        assert which[0] > last
        assert which[0] not in recorded
        last = which[0]
    assert last > 45


@pytest.mark.parametrize("views", [with_labels, with_noise, spoilt_beforehand])
def test_none_where_a_step_is_given_more_than_what_enters(views):
    subject = Subject.of(trained(views)[0])
    assert subject.glimpses
    assert subject.further == []


def test_of_too_many_every_second_is_kept(monkeypatch):
    monkeypatch.setattr(glimpses, "MOST", 8)
    watcher, shown, _ = trained(as_it_is, 200)
    kept = [value for _, value in watcher.glimpses.kept]
    assert 4 <= len(kept) <= 8
    steps = [next(i for i, (given, _) in enumerate(shown) if torch.equal(given, value)) for value in kept]
    assert steps == sorted(steps)
    assert steps[-1] > 150  # the end is among them


def test_large_batches_are_left_alone(monkeypatch):
    monkeypatch.setattr(glimpses, "LARGEST", 5 * 4 * 4 - 1)
    assert trained(as_it_is)[0].glimpses.kept == []


def test_training_is_what_it_is_unwatched():
    assert torch.equal(trained(as_it_is)[2], trained(as_it_is, watched=False)[2])


def test_a_mistake_of_ours_ends_the_looking_only(monkeypatch):
    def fails():
        raise RuntimeError("ours")

    monkeypatch.setattr(glimpses, "transformed", fails)
    watcher, _, weight = trained(as_it_is)
    assert watcher.glimpses.kept == []
    assert torch.equal(weight, trained(as_it_is, watched=False)[2])
