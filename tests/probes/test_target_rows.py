"""Rows of targets against rows of inputs, on literal tensors."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from whyvae.probe import Bench
from whyvae.probes.target import TargetMatch, _of_one_set, _order, _own_row, _repeated
from whyvae.rules.wiring.target_misaligned import TargetMisaligned
from whyvae.testing import kl
from whyvae.verdict import Healthy
from whyvae.watch.direct import watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

ROWS = torch.tensor([[0.0, 1.0], [2.0, 0.0], [4.0, 5.0], [1.0, 3.0]], dtype=torch.float64)


def test_own_rows():
    assert _own_row(ROWS, ROWS) == 1
    assert _own_row(ROWS.roll(1, 0), ROWS) < 1


def test_one_target_for_all_rows_is_chance():
    first = ROWS[:1].expand_as(ROWS)
    assert _repeated(first, ROWS)
    assert _own_row(first, ROWS) == 0.25


def test_one_example_repeated_is_its_own_target():
    same = ROWS[:1].expand_as(ROWS)
    assert not _repeated(same, same)


POINTS = torch.randn(16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_set_in_an_order_of_its_own_is_its_own_target():
    order = torch.rand(POINTS.shape, generator=torch.Generator().manual_seed(1)).argsort(1)
    shuffled = POINTS.gather(1, order)
    assert _of_one_set(POINTS, shuffled)
    assert _own_row(POINTS, shuffled) == 1
    assert not _of_one_set(POINTS.roll(1, 0), shuffled)  # of another example
    assert _own_row(POINTS.roll(1, 0), shuffled) < 0.5


def test_one_order_for_all_examples_is_a_mistake():
    assert not _of_one_set(POINTS[:, torch.randperm(24, generator=torch.Generator().manual_seed(2))], POINTS)


def test_which_column_each_one_is():
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    assert torch.equal(_order(POINTS[:, order], POINTS), order)
    assert _order(POINTS[:, order], POINTS.roll(1, 0)) is None
    assert _order(POINTS[:, [0] * 24], POINTS) is None


def outlines(orders):
    """A VAE of points whose encoder adds them up, shown them in `orders`, one for each batch; the target keeps its own."""
    torch.manual_seed(0)
    points, encoder, decoder = nn.Linear(1, 16), nn.Linear(16, 6), nn.Linear(3, 24)
    optimizer = torch.optim.Adam([*points.parameters(), *encoder.parameters(), *decoder.parameters()], 1e-3)
    generator = np.random.default_rng(0)
    with Watcher() as watcher:
        for order in orders:
            numbers = generator.standard_normal((64, 24)).astype(np.float32)
            x, shown = torch.from_numpy(numbers), torch.from_numpy(numbers[:, order].copy())
            mu, logvar = encoder(points(shown[..., None]).tanh().mean(1)).chunk(2, 1)
            output = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            loss = ((output - x).square().sum() + kl(mu, logvar)) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Bench(Subject.of(watcher)).get(TargetMatch)


def test_points_of_a_set_in_an_order_of_the_batch():
    generator = np.random.default_rng(1)
    every = outlines([generator.permutation(24) for _ in range(30)])
    assert every.own_row == 1
    assert isinstance(TargetMisaligned.check(every), Healthy)


def test_numbers_in_another_order_all_along_are_misaligned():
    one = outlines([np.arange(24)[::-1]] * 30)
    assert one.own_row < 0.5
    assert TargetMisaligned.check(one).severity == "error"


def test_black_and_white_numbers_are_no_set():
    """All rows with as many ones are alike once sorted."""
    rows = (torch.rand(16, 24, generator=torch.Generator().manual_seed(3)).argsort(1) < 12).double()
    order = torch.rand(rows.shape, generator=torch.Generator().manual_seed(1)).argsort(1)
    assert not _of_one_set(rows, rows.gather(1, order))


class Binarised(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(24, 6), nn.Linear(3, 24)

    def forward(self, grey):
        x = torch.bernoulli(grey)
        mu, logvar = self.encoder(2 * x - 1).chunk(2, 1)
        output = self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return (F.binary_cross_entropy_with_logits(output, x, reduction="sum") + kl(mu, logvar)) / len(x)


def test_what_a_step_draws_as_its_data_is_the_origin_of_input_and_target():
    subject = watch_model(Binarised(), POINTS.float().sigmoid().repeat(8, 1), lambda model, x: model(x))
    match = Bench(subject).get(TargetMatch)
    assert match.same_origin
    assert isinstance(TargetMisaligned.check(match), Healthy)


LINKS = (torch.rand(24, 24, generator=torch.Generator().manual_seed(4)) < 0.2).float()
LINKS = torch.maximum(LINKS, LINKS.T).fill_diagonal_(1)


class Links(Binarised):
    """Nodes are the rows; what is decoded are their pairs (Kipf & Welling, arXiv:1611.07308)."""

    def forward(self, nodes):
        mu, logvar = (LINKS @ self.encoder(nodes)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        output = self.outputs(z)
        return (F.binary_cross_entropy_with_logits(output, LINKS, reduction="sum") + kl(mu, logvar)) / len(nodes)

    def outputs(self, z):
        return z @ z.T


class OnePer(Links):
    def outputs(self, z):
        return self.decoder(z)


def test_links_between_nodes_are_no_nodes():
    nodes = torch.randn(24, 24, generator=torch.Generator().manual_seed(5))
    of_pairs = Bench(watch_model(Links(), nodes, lambda model, x: model(x))).get(TargetMatch)
    assert not of_pairs.comparable
    other = Bench(watch_model(OnePer(), nodes, lambda model, x: model(x))).get(TargetMatch)
    assert other.comparable  # as many features as examples, by chance
    assert TargetMisaligned.check(other).severity == "error"
