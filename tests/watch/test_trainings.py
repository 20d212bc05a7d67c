"""Which of several models, and of several losses taken in turn, an examination looks at."""

import pytest
import torch
from torch import nn

from whyvae import watch
from whyvae.probe import Bench
from whyvae.probes.objective import Objective
from whyvae.probes.wiring import Wiring
from whyvae.watch.subject import Subject

STEPS = 40


def network(i, o):
    return nn.Sequential(nn.Linear(i, 16), nn.Tanh(), nn.Linear(16, o))


class Net(nn.Module):
    def __init__(self, latents=3):
        super().__init__()
        self.encoder, self.decoder = network(12, 2 * latents), network(latents, 12)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        return self.decoder(mu + torch.exp(logvar / 2) * torch.randn_like(mu)), mu, logvar


def kl(mu, logvar):
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()


def trained(model, data, weight=1.0, steps=STEPS):
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        x = data[torch.randperm(64)[:16]]
        output, mu, logvar = model(x)
        loss = ((output - x) ** 2).sum() + weight * kl(mu, logvar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def swept(weights, sampled=None, latents=lambda weight: 3):
    """A model for each weight, one after the other; `sampled`: the number of the one whose samples are kept."""
    torch.manual_seed(0)
    data = torch.randn(64, 12)
    with watch(budget=100.0) as watcher:
        models = [trained(Net(latents(w)), data, w) for w in weights]
        if sampled is not None:
            with torch.no_grad():
                models[sampled].decoder(torch.randn(8, 3)).numpy()
    return Subject.of(watcher), models


@pytest.mark.parametrize("latents", [lambda weight: 3, lambda weight: int(2 + weight)], ids=["alike", "of other sizes"])
def test_of_a_sweep_the_last_is_looked_at(latents):
    subject, models = swept([1.0, 5.0, 30.0], latents=latents)
    assert Bench(subject).get(Objective).noise_variance == pytest.approx(30 / 2, rel=1e-6)
    assert {id(p) for p in models[-1].parameters()} == {id(s.value) for s in subject.tape.slots if s.trainable}
    assert Bench(subject).get(Wiring).stale < 1e-6  # what the others left in their gradients is not this one's


def test_the_one_that_is_sampled_is_looked_at():
    subject, models = swept([1.0, 5.0, 30.0], sampled=0)
    assert Bench(subject).get(Objective).noise_variance == pytest.approx(1 / 2, rel=1e-6)
    assert len(subject.decoded) == 1
    assert subject.names[id(models[0].decoder[0].weight)].module


def test_steps_and_log_are_counted_from_its_own_first():
    subject, _ = swept([1.0, 30.0, 2.0], sampled=1)
    assert subject.count == STEPS
    assert [s for s, _ in subject.log.losses()] == list(range(STEPS))
    assert all(0 <= step.index < STEPS for step in subject.steps)
    assert subject.main.index > STEPS / 2


def test_an_optimiser_in_the_place_of_one_that_is_gone_is_another():
    """Each is freed when its training ends, and the next often lies at its address."""
    torch.manual_seed(0)
    data = torch.randn(64, 12)
    with watch(budget=100.0) as watcher:
        for _ in range(8):
            trained(Net(), data, steps=4)
    assert [o.steps for o in watcher.optimizers.values()] == [4] * 8
    assert watcher.count == 32


def test_a_second_optimiser_of_one_model_goes_on():
    torch.manual_seed(0)
    model, data = Net(), torch.randn(64, 12)
    with watch(budget=100.0) as watcher:
        trained(trained(model, data), data, weight=4.0)
    subject = Subject.of(watcher)
    assert subject.count == 2 * STEPS
    assert Bench(subject).get(Objective).noise_variance == pytest.approx(4 / 2, rel=1e-6)
    assert {step.index < STEPS for step in subject.steps} == {True, False}


def test_a_classifier_trained_on_the_codes_afterwards_is_no_part_of_it():
    torch.manual_seed(0)
    model, probe, data = Net(), nn.Linear(3, 2), torch.randn(64, 12)
    with watch(budget=100.0) as watcher:
        trained(model, data)
        optimizer = torch.optim.Adam(probe.parameters())
        for _ in range(3 * STEPS):
            x = data[torch.randperm(64)[:16]]
            with torch.no_grad():
                codes = model.encoder(x)[:, :3]
            optimizer.zero_grad()
            nn.functional.cross_entropy(probe(codes), (x[:, 0] > 0).long()).backward()
            optimizer.step()
    subject = Subject.of(watcher)
    assert subject.count == STEPS
    assert [s for s, _ in subject.log.losses()] == list(range(STEPS))
    assert Bench(subject).get(Objective).noise_variance == pytest.approx(1 / 2, rel=1e-6)


@pytest.mark.parametrize("critic_first", [True, False])
def test_a_critic_in_turn_does_not_hide_the_loss_of_the_vae(critic_first):
    """The critic is shown detached outputs and steps before the VAE's loss is taken, of the same forward pass."""
    torch.manual_seed(0)
    model, critic, data = Net(), network(12, 1), torch.randn(64, 12)
    ours, theirs = (torch.optim.Adam(m.parameters()) for m in (model, critic))
    judge = nn.BCEWithLogitsLoss()

    def criticise(x, output):
        theirs.zero_grad()
        real, made = judge(critic(x), torch.ones(16, 1)), judge(critic(output.detach()), torch.zeros(16, 1))
        (real + made).backward()
        theirs.step()

    with watch(budget=100.0) as watcher:
        for _ in range(STEPS):
            x = data[torch.randperm(64)[:16]]
            output, mu, logvar = model(x)
            if critic_first:
                criticise(x, output)
            ours.zero_grad()
            (((output - x) ** 2).sum() + 3 * kl(mu, logvar)).backward()
            ours.step()
            if not critic_first:
                criticise(x, output)
    subject = Subject.of(watcher)
    assert Bench(subject).get(Objective).noise_variance == pytest.approx(3 / 2, rel=1e-6)
    assert subject.main.index > STEPS / 2
    assert subject.count in {STEPS, STEPS + 1}


def test_a_layer_whose_output_nothing_uses_does_not_hold_a_step_open():
    torch.manual_seed(0)
    model, spare, data = Net(), nn.Linear(12, 12), torch.randn(64, 12)
    optimizer = torch.optim.Adam([*model.parameters(), *spare.parameters()])
    with watch(budget=100.0) as watcher:
        for _ in range(6):
            x = data[torch.randperm(64)[:16]]
            output, mu, logvar = model(x)
            spare(output)  # a variance that the loss does not ask for
            (((output - x) ** 2).sum() + 3 * kl(mu, logvar)).backward()
            optimizer.step()
    steps = Subject.of(watcher).steps
    assert [s.index for s in steps] == list(range(6))
    assert all(s.stale > 0 for s in steps[1:])  # nothing clears the gradients here
