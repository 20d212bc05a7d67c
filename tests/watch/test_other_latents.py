"""Latents of another kind than z = mu + sigma * eps are not accused of what only such a z can have."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.examine import examine
from whyvae.testing import digits
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

UNITS, KINDS, STEPS = 6, 4, 150


def of_torch(logits):
    return F.gumbel_softmax(logits.unflatten(1, (UNITS, KINDS)), 0.7).flatten(1)


def by_hand(logits):
    gumbel = -torch.log(-torch.log(torch.rand_like(logits) + 1e-20) + 1e-20)
    return ((logits + gumbel) / 0.7).unflatten(1, (UNITS, KINDS)).softmax(-1).flatten(1)


def straight_through(logits):
    p = logits.sigmoid()
    return torch.bernoulli(p) + p - p.detach()


@pytest.mark.parametrize("sample", [of_torch, by_hand, straight_through])
def test_a_discrete_latent_is_named_and_not_accused(sample):
    torch.manual_seed(0)
    data = digits() / 16
    encoder = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, UNITS * KINDS))
    decoder = nn.Sequential(nn.Linear(UNITS * KINDS, 64), nn.Tanh(), nn.Linear(64, 64))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 2e-3)
    with Watcher() as watcher:
        for _ in range(STEPS):
            x = data[torch.randint(len(data), (64,))]
            logits = encoder(x)
            p = logits.unflatten(1, (UNITS, KINDS)).softmax(-1)
            kl = (p * (p.clamp_min(1e-9) * KINDS).log()).sum((1, 2)).mean()
            loss = (decoder(sample(logits)) - x).square().sum(1).mean() / 0.05 + kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = examine(Subject.of(watcher))
    assert {f.code for f in found.findings} <= {"TRN03"}  # the training is short
    assert found.verdict != "healthy"
