"""Compiled code runs as written while a step is recorded, whatever of the step it holds."""

import torch
from torch import nn

from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher


def test_a_loss_that_is_compiled_whole_is_seen():
    torch.manual_seed(0)
    data = torch.randn(64, 6)
    with Watcher() as watcher:  # a window is open before the compiler is called
        encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)

        @torch.compile(backend="aot_eager")
        def loss_of(x: torch.Tensor) -> torch.Tensor:
            mu, logvar = encoder(x).chunk(2, 1)
            out = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
            return ((out - x) ** 2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()

        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
        for _ in range(4):
            optimizer.zero_grad()
            loss_of(data).backward()
            optimizer.step()
    subject = Subject.of(watcher)
    assert subject.lineage.latents == 2
    assert subject.tape.compiled
