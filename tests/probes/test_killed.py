"""Which units die in a short course from the start: at the rate of the run, and at a tenth of it."""

import pytest
import torch
from torch import nn

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.killed import Killed
from whyvae.probes.units import HiddenUnits
from whyvae.testing import Patient, digits, fitting


def trained(lr, activation=nn.ReLU):
    return Patient(
        data=digits(), latents=6, hidden=64, decoder_hidden=64, activation=activation, loss=fitting, steps=400, lr=lr
    ).train()


def test_large_steps_kill_and_small_ones_do_not():
    subject = trained(0.1)
    ended, again = HiddenUnits.measure(subject), Bench(subject).get(Killed)
    worst = max(range(len(ended.layers)), key=lambda i: ended.layers[i].share)
    assert ended.layers[worst].share > 0.7
    assert again.users[worst] > 0.7 > again.slower[worst]
    assert again.rate == 0.1


def test_moderate_steps_kill_nothing():
    again = Bench(trained(1e-3)).get(Killed)
    assert max(*again.users, *again.slower) < 0.3


def test_the_trained_model_is_left_as_it_was():
    subject = trained(0.1)
    before = HiddenUnits.measure(subject)
    Bench(subject).get(Killed)
    assert HiddenUnits.measure(subject) == before


def test_needs_the_start(monkeypatch):
    subject = trained(1e-3)
    monkeypatch.setattr(type(subject), "earliest", None)
    with pytest.raises(CannotMeasure):
        Bench(subject).get(Killed)


def test_the_users_random_stream_is_left_alone():
    subject = trained(1e-2)
    before = torch.get_rng_state()
    Bench(subject).get(Killed)
    assert torch.equal(torch.get_rng_state(), before)
