"""Rows that mix, counted by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.rows import RowMixing
from whyvae.testing import Patient
from whyvae.watch.direct import watch_model

B, T, D, L = 16, 4, 6, 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.step = nn.Linear(T * D, 8), nn.Linear(D, 8)
        self.rnn, self.first = nn.GRU(D, 8), nn.GRU(D, 8, batch_first=True)
        self.norm = nn.BatchNorm1d(8)
        self.bare = nn.BatchNorm1d(8, track_running_stats=False)
        self.heads, self.out = nn.Linear(8, 2 * L), nn.Linear(L, T * D)


def measured(encode, decode=lambda m, z: m.out(z).view(-1, T, D), rows=2 * B):
    """RowMixing of a step with these parts; `encode(m, x) -> [batch, 8]`."""

    def loss(m, x):
        mu, logvar = m.heads(encode(m, x)).chunk(2, -1)
        y = decode(m, mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return (y - x).square().sum() + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()

    x = torch.randn(rows, T, D, generator=torch.Generator().manual_seed(1))
    return Bench(watch_model(Net(), [x[:B], x[B:]], loss)).get(RowMixing)


def wide(m, x):
    return torch.tanh(m.flat(x.reshape(len(x), -1)))


def by_time(m, x):
    return m.rnn(x.transpose(0, 1))[1][-1]


HEALTHY = {
    "layer by layer": wide,
    "batch first": lambda m, x: m.first(x)[0][:, -1],
    "time first, as the layer wants it": by_time,
    "attention over time": lambda m, x: (m.step(x) * torch.softmax(m.step(x), 1)).sum(1),
    "rows by time step": lambda m, x: m.step(x.reshape(-1, D)).view(len(x), T, 8).sum(1),
    "batch norm in training": lambda m, x: m.norm(wide(m, x)),
    "batch norm without running statistics": lambda m, x: m.bare(wide(m, x)),
    "standardised input": lambda m, x: wide(m, (x - x.mean(0)) / x.std(0)),
}
ALL = {
    "softmax over the batch": lambda m, x: wide(m, x) * torch.softmax(wide(m, x), 0),
    "norm over the batch": lambda m, x: F.normalize(wide(m, x), dim=0),
    "recurrence over the batch": lambda m, x: m.rnn(x)[0][:, -1],
    "pooled over the batch": lambda m, x: wide(m, x).mean(0, keepdim=True).expand(len(x), -1),
    "statistics held, softmax behind them": lambda m, x: torch.softmax(m.bare(wide(m, x)), 0),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_examples_by_themselves_move_one(name):
    found = measured(HEALTHY[name])
    assert (found.encoder, found.decoder, found.op, found.statistics) == (1.0, 1.0, "", "")


@pytest.mark.parametrize("name", ALL)
def test_all_move_where_all_are_mixed(name):
    found = measured(ALL[name])
    assert (found.encoder, found.decoder) == (B, 1.0)
    assert found.op
    assert found.at is not None
    assert found.at.file == __file__


def test_a_scrambled_batch_moves_as_many_as_there_are_time_steps():
    """Row r of the reshape holds the pieces r T .. r T + T - 1 of T B pieces, piece t B + b from example b: example b lies
    in the rows (t B + b) // T, one for each t.
    """
    found = measured(lambda m, x: torch.tanh(m.flat(x.transpose(0, 1).reshape(len(x), -1))))
    assert (found.encoder, found.decoder, found.op) == (T, 1.0, "reshape")


def test_scrambled_outputs_are_the_decoders():
    found = measured(wide, lambda m, z: m.out(z).view(T, -1, D).transpose(0, 1))
    assert (found.encoder, found.decoder, found.op) == (1.0, T, "view")


def test_alone_and_together_agree_with_the_count():
    """The slow way: encode each example among the batch and with one companion replaced."""
    m = Net().eval()
    x = torch.randn(B, T, D)
    for encode, expected in ((wide, 1), (ALL["softmax over the batch"], B)):
        y = x.clone()
        y[3] = x[5]
        with torch.no_grad():
            moved = (encode(m, x) - encode(m, y)).abs().amax(1) > 1e-7
        assert int(moved.sum()) == expected


def test_statistics_by_hand_are_noted_and_not_counted():
    def standard(m, x):
        h = wide(m, x)
        return (h - h.mean(0)) / h.std(0)

    found = measured(standard)
    assert (found.encoder, found.statistics) == (1.0, "mean")


@pytest.mark.parametrize("links", [lambda ring: ring, torch.Tensor.to_sparse])
def test_nodes_of_a_graph_are_meant_to_mix(links):
    ring = links(torch.eye(B).roll(1, 0) + torch.eye(B))
    assert measured(lambda m, x: ring @ wide(m, x)).by_design == "rows are the nodes of a graph"


def test_a_latent_of_a_whole_sequence_has_no_rows_to_mix():
    def encode(m, x):
        return wide(m, x).mean(0, keepdim=True)

    found = measured(encode, lambda m, z: m.out(z).view(1, T, D).expand(B, T, D))
    assert found.encoder != found.encoder  # nan


def test_examples_at_which_all_units_are_dead_hide_nothing():
    def decode(m, z):
        return torch.relu(m.out(z.cumsum(0)).view(-1, T, D) - 1e3 * (torch.arange(len(z)) > 2).view(-1, 1, 1))

    mixing = measured(wide, decode)
    assert mixing.decoder > 1.5
    assert mixing.op == "cumsum"


def test_where_all_units_died_the_start_of_the_run_shows_it():
    subject = Patient(between=lambda h: h.t().reshape(h.shape), steps=60).train()
    subject.replay.parameters = {i: torch.zeros_like(p) for i, p in subject.replay.parameters.items()}
    assert RowMixing.measure(subject).encoder > 1.5
    still = Patient(steps=60).train()
    still.replay.parameters = {i: torch.zeros_like(p) for i, p in still.replay.parameters.items()}
    assert not RowMixing.measure(still).encoder > 1.5
