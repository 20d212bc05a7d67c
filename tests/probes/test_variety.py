"""Examples counted in data whose number is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.variety import Variety, estimated
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

D, BATCH = 5, 16


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads, self.out = nn.Linear(D, 4), nn.Linear(2, D)

    def loss(self, x):
        mu, logvar = self.heads(x).chunk(2, 1)
        y = self.out(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return (y - x).square().sum() + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


def trained(batches, net=Net):
    torch.manual_seed(0)
    model = net()
    with Watcher() as watcher:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for x in batches():
            optimizer.zero_grad()
            model.loss(x).backward()
            optimizer.step()
    return Bench(Subject.of(watcher)).get(Variety)


def rows(n):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(1))


def test_draws_from_ten_examples():
    x = rows(10)
    found = trained(lambda: (x[torch.randint(10, (BATCH,))] for _ in range(30)))
    assert found.distinct == 10
    assert found.estimate == pytest.approx(10, abs=0.5)
    assert (found.moving, found.features, found.available) == (D, D, 10)


def test_one_batch_again_and_again_out_of_a_loader():
    loader = DataLoader(TensorDataset(rows(200)), batch_size=BATCH)
    found = trained(lambda: (next(iter(loader))[0] for _ in range(30)))
    assert (found.distinct, found.available) == (BATCH, 200)
    assert found.estimate == pytest.approx(BATCH, abs=0.1)


def test_one_batch_of_a_tensor():
    x = rows(200)
    found = trained(lambda: (x[:BATCH] for _ in range(30)))
    assert (found.distinct, found.available) == (BATCH, 200)


def test_streams_never_repeat():
    """Drawn inside the step (a replay would draw the same again), and outside of torch."""
    found = trained(lambda: (torch.randn(BATCH, D) for _ in range(30)))
    assert (found.distinct, found.estimate, found.available) == (BATCH, math.inf, 0)
    numpy = np.random.default_rng(0)
    found = trained(lambda: (torch.tensor(numpy.standard_normal((BATCH, D))).float() for _ in range(30)))
    assert found.distinct == found.rows > BATCH
    assert (found.estimate, found.available) == (math.inf, 0)


def test_all_the_same_but_for_rounding():
    x = 3 + 1e-7 * rows(BATCH)
    assert trained(lambda: (x for _ in range(30))).moving == 0


def test_half_blank():
    x = rows(BATCH)
    x[: BATCH // 2] = 0
    found = trained(lambda: (x for _ in range(30)))
    assert found.commonest == 0.5
    assert found.distinct == BATCH // 2 + 1


def test_not_a_number_is_anothers_business():
    x = rows(BATCH)
    x[0, 0] = math.nan
    with pytest.raises(CannotMeasure, match="DAT01"):
        trained(lambda: (x for _ in range(30)))


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_estimate_of_how_many_there_are(n):
    """Mean over 200 simulated series of 1000 draws; the estimate's own error is of order n exp(-1000 / n)."""
    generator = torch.Generator().manual_seed(n)
    draws = torch.randint(n, (200, 1000), generator=generator)
    found = [estimated(1000, len(row.unique())) for row in draws]
    assert sum(found) / len(found) == pytest.approx(n, rel=0.03)


class Words(Net):
    """Reads classes, puts out probabilities of two for each place."""

    def __init__(self):
        super().__init__()
        self.embed, self.heads, self.out = nn.Embedding(2, 3), nn.Linear(3 * D, 4), nn.Linear(2, 2 * D)

    def loss(self, x):
        mu, logvar = self.heads(self.embed(x).flatten(1)).chunk(2, 1)
        y = self.out(mu + torch.randn_like(mu) * (0.5 * logvar).exp()).view(-1, 2)
        return nn.functional.cross_entropy(y, x.flatten()) + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


def test_of_classes_at_hand_different_rows_are_counted():
    words = torch.randint(2, (400, D), generator=torch.Generator().manual_seed(2))
    found = trained(lambda: (words[torch.randint(400, (BATCH,))] for _ in range(30)), Words)
    assert found.available == len(words.unique(dim=0)) == 2**D
    loader = DataLoader(TensorDataset(words), batch_size=BATCH)
    assert trained(lambda: (x for (x,) in loader), Words).available == 0  # what a loader has is not looked through


class Mixed(Net):
    """A table as two tensors: classes, which are embedded, and measurements."""

    def __init__(self):
        super().__init__()
        self.embedded, self.heads = nn.Embedding(3, 2), nn.Linear(D, 4)

    def loss(self, batch):
        classes, numbers = batch
        return super().loss(torch.cat([self.embedded(classes), numbers], 1))


def test_examples_of_a_table_in_two_tensors_differ_where_one_of_these_does():
    classes, numbers = torch.arange(200) % 3, rows(200)[:, : D - 2]
    picks = [torch.randint(200, (BATCH,)) for _ in range(30)]
    found = trained(lambda: ((classes[p], numbers[p]) for p in picks), Mixed)
    assert found.distinct > 100
    assert trained(lambda: ((classes[p], numbers[:1].expand(BATCH, -1)) for p in picks), Mixed).distinct <= 3
