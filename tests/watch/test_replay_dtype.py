"""A tape run again in float32: the same numbers as in float64, to its digits."""

import torch
from torch import nn

from whyvae.watch.direct import watch_model
from whyvae.watch.replay import Replay

DATA = torch.rand(64, 12, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(12, 6), nn.Linear(3, 12)
        self.register_buffer("mean", DATA.mean(0))

    def forward(self, x):
        mu, logvar = self.encoder((x - self.mean).double().float()).chunk(2, 1)
        output = self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()) + torch.zeros(12, dtype=torch.float32)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return ((output - x).square().sum() + kl) / len(x)


def test_runs_in_single_precision_whatever_is_fed():
    subject = watch_model(Model(), DATA, lambda model, x: model(x))
    single, feed, roots = Replay(subject.tape, dtype=torch.float32), subject.train[0], list(subject.tape.roots)
    fed = {**feed, subject.lineage.eps: torch.randn(subject.tape.slots[subject.lineage.eps].shape)}
    one, two = single.run(roots, feed=fed), subject.replay.run(roots, feed=fed)
    assert all(one[r].dtype == torch.float32 and two[r].dtype == torch.float64 for r in roots)
    assert all(torch.allclose(one[r].double(), two[r], rtol=1e-5) for r in roots)
    grads = torch.autograd.grad(sum(one[r].sum() for r in roots), list(single.parameters.values()))
    assert all(g.dtype == torch.float32 for g in grads)


def test_counts_what_a_run_costs():
    subject = watch_model(Model(), DATA, lambda model, x: model(x))
    batch = subject.batch
    assert subject.replay.flops(subject.tape.roots, subject.train[0]) == 2 * batch * (12 * 6 + 3 * 12)
