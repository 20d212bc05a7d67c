"""Gradients left over from earlier steps, where encoder and decoder have an optimiser each."""

from __future__ import annotations

import pytest
import torch

from whyvae import watch
from whyvae.probe import Bench
from whyvae.probes.wiring import Wiring
from whyvae.watch.subject import Subject


def taken_turns(turns, clears):
    """`turns`: the optimisers that step after each backward of an iteration; `clears`: those whose gradients are cleared
    before the backward that they follow.
    """
    torch.manual_seed(0)
    data = torch.randn(64, 12)
    encoder, decoder = torch.nn.Linear(12, 6), torch.nn.Linear(3, 12)
    by = {"e": torch.optim.Adam(encoder.parameters()), "d": torch.optim.Adam(decoder.parameters())}
    with watch(budget=100.0) as watcher:
        for _ in range(20):
            for turn in turns:
                for name in turn:
                    if name in clears:
                        by[name].zero_grad()
                mu, logvar = encoder(data).chunk(2, 1)
                out = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
                loss = (out - data).pow(2).sum() / 2 + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
                loss.backward()
                for name in turn:
                    by[name].step()
    return Subject.of(watcher)


def test_what_the_other_optimiser_is_to_clear_counts_for_it_alone():
    wiring = Bench(taken_turns(("e", "d"), "ed")).get(Wiring)
    assert wiring.stale_steps > 4
    assert wiring.stale == 0.0


@pytest.mark.parametrize("clears", ["e", "d", ""])
def test_one_of_two_that_step_together_clears_nothing(clears):
    assert Bench(taken_turns(("ed",), clears)).get(Wiring).stale > 0.1


def test_neither_clears_anything():
    assert Bench(taken_turns(("e", "d"), "")).get(Wiring).stale > 0.5
