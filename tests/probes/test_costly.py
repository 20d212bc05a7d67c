"""A convolutional VAE of the size people train on MNIST: its parts are judged although a step of it is costly."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from whyvae.probe import Bench
from whyvae.probes.course import Course
from whyvae.rules.capacity.decoder_too_small import DecoderTooSmall
from whyvae.rules.capacity.encoder_too_small import EncoderTooSmall
from whyvae.testing import kl
from whyvae.verdict import Finding, Healthy
from whyvae.watch.subject import COSTLY, TRAINING, Subject
from whyvae.watch.watcher import Watcher

LATENTS, STEPS = 12, 600


def trained(hidden):
    """A subject; `hidden`: units of the first layer behind z."""
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(digits, size=28, mode="bilinear")
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 2 * LATENTS),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(LATENTS, hidden), nn.ReLU(), nn.Linear(hidden, 64 * 49), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    with Watcher() as watcher:
        for _ in range(STEPS):
            x = images[torch.randperm(len(images))[:64]]
            mu, logvar = encoder(x).chunk(2, 1)
            output = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            optimizer.zero_grad()
            ((F.binary_cross_entropy(output, x, reduction="sum") + kl(mu, logvar)) / 64).backward()
            optimizer.step()
        with torch.no_grad():
            decoder(torch.randn(32, LATENTS))
    return Subject.of(watcher)


@pytest.mark.slow
def test_a_narrow_layer_behind_z_is_found_and_a_wide_one_is_not():
    narrow, wide = trained(6), trained(128)
    assert TRAINING * wide.replay.flops(wide.tape.roots, wide.train[0]) > COSTLY
    assert wide.trial_replay.dtype == torch.float32
    found = Bench(narrow).call(DecoderTooSmall.check)
    assert isinstance(found, Finding)
    assert "6 numbers" in found.summary
    bench = Bench(wide)
    assert all(isinstance(bench.call(rule.check), Healthy) for rule in (DecoderTooSmall, EncoderTooSmall))
    assert Course(wide).replay is wide.trial_replay
