"""A loss of several likelihoods: each of them is judged, in whatever order they stand."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.examine import examine
from whyvae.probes.parts import further_parts
from whyvae.testing import kl
from whyvae.watch.direct import watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

NUMBERS, FLAGS, CLASSES, K = 4, 3, 3, 3
JUDGED = ("OUT01", "OUT02", "OUT03", "OBJ08")


def table(n=1500, seed=0):
    torch.manual_seed(seed)
    cause = torch.randn(n, 2)
    numbers = cause @ torch.randn(2, NUMBERS) + 0.3 * torch.randn(n, NUMBERS)
    flags = torch.bernoulli(torch.sigmoid(3 * cause @ torch.randn(2, FLAGS)))
    classes = (cause @ torch.randn(2, CLASSES) + 0.3 * torch.randn(n, CLASSES)).argmax(1)
    return (numbers - numbers.mean(0)) / numbers.std(0), flags, classes


def squares(y, x):
    return ((y - x) ** 2).sum(1) / (2 * 0.3**2)


def yes_or_no(y, x):
    return F.binary_cross_entropy_with_logits(y, x, reduction="none").sum(1)


def which(y, x):
    return F.cross_entropy(y, x, reduction="none")


class Decoder(nn.Module):
    """Three heads, or one that is cut in three."""

    def __init__(self, cut):
        super().__init__()
        self.cut, self.hidden = cut, nn.Sequential(nn.Linear(K, 24), nn.ReLU())
        sizes = [NUMBERS, FLAGS, CLASSES]
        self.heads = nn.ModuleList([nn.Linear(24, sum(sizes))] if cut else [nn.Linear(24, n) for n in sizes])

    def forward(self, z):
        h = self.hidden(z)
        return self.heads[0](h).split([NUMBERS, FLAGS, CLASSES], 1) if self.cut else [head(h) for head in self.heads]


def trained(terms, order=(0, 1, 2), *, cut=False, whole=False, data=None):
    """`terms`: of the output and the data, for numbers, flags, classes; `whole`: the parts are cut from one batch."""
    numbers, flags, classes = data or table()
    rows = torch.cat([numbers, flags, F.one_hot(classes, CLASSES).float()], 1)
    encoder, decoder = nn.Sequential(nn.Linear(rows.shape[1], 24), nn.ReLU(), nn.Linear(24, 2 * K)), Decoder(cut)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    with Watcher() as watcher:
        for _ in range(30):
            i = torch.randint(len(rows), (64,))
            x = rows[i]
            parts = (x[:, :NUMBERS], x[:, NUMBERS:-CLASSES], x[:, -CLASSES:].argmax(1))
            wanted = parts if whole else (numbers[i], flags[i], classes[i])
            mu, logvar = encoder(x).chunk(2, 1)
            made = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            loss = sum(terms[k](made[k], wanted[k]).mean() for k in order) + kl(mu, logvar) / 64
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Subject.of(watcher)


RIGHT = (squares, yes_or_no, which)
ORDERS = [(0, 1, 2), (2, 1, 0), (1, 2, 0)]
WRONG = {
    "OUT01": (lambda y, x: squares(y.sigmoid(), x), yes_or_no, which),
    "OUT03": (squares, lambda y, x: yes_or_no(y.sigmoid(), x), which),
    "OUT03 of classes": (squares, yes_or_no, lambda y, x: which(y.softmax(1), x)),
    "OBJ08 of classes": (squares, yes_or_no, lambda y, x: -which(y, x)),
    "OBJ08": (lambda y, x: -squares(y, x), yes_or_no, which),
}


def found(subject):
    return [f.code for f in examine(subject, JUDGED).findings]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_what_is_right_is_right_in_every_part(order, cut, whole):
    subject = trained(RIGHT, order, cut=cut, whole=whole)
    assert found(subject) == []
    assert len(further_parts(subject)) >= 1


@pytest.mark.parametrize(
    ("wrong", "order", "cut"),
    [*itertools.product(WRONG, ORDERS, [False]), *itertools.product(WRONG, ORDERS[1:2], [True])],
)
def test_a_fault_of_one_part_is_found_wherever_it_stands(wrong, order, cut):
    assert found(trained(WRONG[wrong], order, cut=cut)) == [wrong[:5]]


@pytest.mark.parametrize("order", ORDERS)
def test_one_part_averaged_beside_others_that_are_summed(order):
    """Of the squares of one part the mean is taken: its KL counts as if its noise had the variance 2."""
    judged = (*JUDGED, "OBJ02")
    averaged = trained((lambda y, x: (y - x).square().mean(1), yes_or_no, which), order)
    assert [f.code for f in examine(averaged, judged).findings] == ["OBJ02"]
    assert examine(trained(RIGHT, order), judged).findings == ()


def density(scale):
    return lambda y, x: -torch.distributions.Normal(y, scale).log_prob(x).sum(1)


@pytest.mark.parametrize(("first", "second", "codes"), [(0.3, 0.4, []), (0.3, 5.0, ["OUT04"]), (3.0, 0.4, ["OUT04"])])
def test_a_scale_of_one_density_beside_another(first, second, codes):
    """Flags stand for more numbers here."""
    subject = trained((density(first), density(second), which))
    assert [f.code for f in examine(subject, (*JUDGED, "OUT04")).findings] == codes


class Coarse(nn.Module):
    """Tells the data whole, and once more at a quarter of their size."""

    def __init__(self):
        super().__init__()
        self.encoder, self.hidden = nn.Linear(64, 6), nn.Linear(3, 24)
        self.fine, self.coarse = nn.Linear(24, 64), nn.Linear(24, 16)

    def forward(self, x):
        mu, logvar = self.encoder(x.flatten(1)).chunk(2, 1)
        h = self.hidden(mu + torch.randn_like(mu) * (0.5 * logvar).exp()).tanh()
        fine = squares(self.fine(h), x.flatten(1)).mean()
        coarse = F.l1_loss(self.coarse(h), F.avg_pool2d(x, 2).flatten(1))
        return fine + coarse + kl(mu, logvar) / len(x)


def test_a_coarser_view_of_what_is_told_whole_is_no_part():
    pictures = torch.randn(128, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    subject = watch_model(Coarse(), pictures, lambda model, x: model(x))
    assert subject.tape.slots[subject.lineage.output].numel == pictures.numel()
    assert further_parts(subject) == []


@pytest.mark.parametrize("order", ORDERS)
def test_numbers_beyond_a_cross_entropy_are_found_beside_flags(order):
    numbers, flags, classes = table()
    terms = (yes_or_no, yes_or_no, which)  # of standardised numbers
    assert "OUT02" in found(trained(terms, order, data=(numbers, flags, classes)))
