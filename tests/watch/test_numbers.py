"""Where numbers stopped being numbers: forwards, backwards, at the precision they had, and before a backward was called."""

import math

import pytest
import torch
from torch import nn

from whyvae.probes.data import Data
from whyvae.probes.finite import Finiteness
from whyvae.watch.numbers import first_break
from whyvae.watch.subject import Subject
from whyvae.watch.trainings import NothingSeen
from whyvae.watch.watcher import Watcher


def trained(term, steps=4, check=None, scale=1.0, lr=1e-3):
    """A subject; `term(output, x)` is the reconstruction term, `check(loss)` may raise or say True to leave a step out."""
    torch.manual_seed(0)
    x = torch.rand(32, 6)
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    with torch.no_grad():
        encoder.weight.mul_(scale)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr)
    with Watcher() as watcher:
        try:
            for _ in range(steps):
                mu, logvar = encoder(x).chunk(2, 1)
                output = decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
                loss = term(output, x) - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
                if check is not None and check(loss):
                    continue
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        except ArithmeticError:
            pass
    return Subject.of(watcher)


def squares(output, x):
    return (output - x).square().sum(1).mean()


BREAKS = {
    "log of 0": (lambda y, x: -(x * y.clamp(0, 1).log()).sum(), "log", False),
    "log of 1 - 1 in float32": (lambda y, x: -(1 - torch.sigmoid(y + 30)).log().sum(), "log", False),
    "division": (lambda y, x: ((y - x) / (x - x)).sum(), "div", False),
    "gradient of a root at 0": (lambda y, x: squares(y, x) + ((y - y.detach()) ** 2).sum().sqrt(), "sqrt", True),
    "gradient of a power at 0": (lambda y, x: squares(y, x) + (0 * y).pow(0.3).sum(), "pow", True),
    "overflow": (lambda y, x: squares(y, x) + (100 + 0 * y).exp().sum(), "exp", False),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_function_is_named(name):
    term, op, backward = BREAKS[name]
    finite = Finiteness.measure(trained(term))
    assert (finite.op, finite.backward, finite.broken) == (op, backward, True)
    assert finite.at.file == __file__


@pytest.mark.parametrize(
    "term",
    [
        squares,
        lambda y, x: squares(y, x) + torch.cat([y, -math.inf + 0 * x], 1).softmax(1).square().sum(),  # masked
        lambda y, x: squares(y, x) - (torch.sigmoid(y + 12)).log().sum(),
    ],
)
def test_numbers_that_stay(term):
    subject = trained(term)
    assert first_break(subject.tape) is None
    assert not subject.broken
    assert not Finiteness.measure(subject).broken


def _raises(loss):
    if not torch.isfinite(loss):
        raise ArithmeticError


@pytest.mark.parametrize("check", [_raises, lambda loss: bool(torch.isnan(loss) | torch.isinf(loss))])
def test_a_script_that_looks_before_its_first_backward(check):
    subject = trained(BREAKS["log of 0"][0], check=check)
    finite = Finiteness.measure(subject)
    assert (subject.count, finite.step, finite.op) == (0, 0, "log")


@pytest.mark.parametrize("check", [_raises, lambda loss: not torch.isfinite(loss)])
def test_a_script_that_looks_later(check):
    subject = trained(squares, steps=40, lr=200.0, check=check)
    assert subject.broken
    finite = Finiteness.measure(subject)
    assert finite.broken
    assert finite.op == "exp"


def test_a_script_that_stopped_for_another_reason_shows_no_step():
    def leave(loss):
        raise ArithmeticError

    with pytest.raises(NothingSeen, match="called no `backward`"):
        trained(squares, check=leave)


def test_what_is_told_of_a_forward_pass_that_was_not_ended():
    def stop(output, x):
        raise ArithmeticError

    with pytest.raises(NothingSeen, match=r"`exp` \(line \d+\) had made NaN or Inf of numbers up to \d+; the data"):
        trained(stop, scale=1e3)


def looping(batches, *, validated=False, memory=None, spoil=None, look=None):
    """A subject; batches whose loss is no number are left out, or, `validated`, stop the script. of `memory`, a tensor is
    drawn into each time. `spoil` is called with the encoder after each step, `look` before it.
    """
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    with Watcher() as watcher:
        for x in batches:
            if memory is not None:
                memory.pop().normal_()
            mu, logvar = encoder(x).chunk(2, 1)
            if validated and not bool(torch.isfinite(mu).all()):
                break
            output = decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
            loss = squares(output, x) - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
            if not torch.isfinite(loss):
                continue
            optimizer.zero_grad()
            loss.backward()
            if look is not None:
                look(encoder)
            optimizer.step()
            if spoil is not None:
                spoil(encoder)
    return Subject.of(watcher)


def test_numbers_in_batches_that_are_left_out_are_counted():
    batches = [torch.rand(32, 6) for _ in range(6)]
    assert Data.measure(looping(batches)).not_finite == 0
    batches[1][3, 2] = batches[1][4, 2] = -math.inf
    data = Data.measure(looping(batches))
    assert (data.not_finite, data.refused) == (2, 2)


def test_memory_that_is_filled_before_it_is_read_held_anything():
    """As `torch.empty` gives it to `rsample`, in the shape of the batch."""
    batches = [torch.rand(32, 6) for _ in range(6)]
    assert Data.measure(looping(batches, memory=[torch.full((32, 6), math.nan) for _ in batches])).not_finite == 0


def test_so_are_those_of_the_batch_at_which_a_script_stops():
    batches = [torch.rand(32, 6) for _ in range(3)]
    batches[2][3, 2] = math.nan
    data = Data.measure(looping(batches, validated=True))
    assert (data.not_finite, data.refused) == (1, 1)


def test_weights_in_the_shape_of_a_batch_are_no_data():
    """A first layer of as many units as there are examples: once training broke, its weights were called data."""

    def spoil(encoder):
        with torch.no_grad():
            encoder.weight.fill_(math.nan)

    batches = [torch.rand(4, 6) for _ in range(4)]
    assert Data.measure(looping(batches, validated=True, spoil=spoil)).not_finite == 0


def test_gradients_in_the_shape_of_a_batch_whose_norms_are_looked_at_are_no_data():
    spoilt = torch.full((4, 6), math.nan)

    def look(encoder):
        encoder.weight.grad = spoilt
        assert not torch.isfinite(encoder.weight.grad.norm())

    batches = [torch.rand(4, 6) for _ in range(4)]  # the encoder's weight is 4 x 6 as well
    assert Data.measure(looping(batches, look=look)).not_finite == 0
