"""Recording leaves the patient bit for bit as it was, and the tape computes what the step did."""

import random

import numpy as np
import pytest
import test_bugs
import test_spellings
import test_unauditable
import torch
import torch.nn.functional as F
from steps import VAE, B, D, d, kl_sum, record, reparameterise, sse
from torch import Tensor, nn

from whyvae.watch import recorder as recorders
from whyvae.watch.recorder import Recorder
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.tape import RANDOM

SPELLINGS = test_spellings.CASES
CASES = [*SPELLINGS, *test_bugs.CASES, *test_unauditable.CASES]
LOW_PRECISION = {"bf16_autocast": 0.02, "autocast_loss_in_float": 0.02}


def names(case):
    return case.name


def tensors_of(model):
    """Parameters and buffers of whatever a case trains."""
    if isinstance(model, nn.Module):
        return [*model.parameters(), *model.buffers()]
    parts = model if isinstance(model, tuple) else vars(model).values()
    return [t for p in parts for t in ([p] if isinstance(p, Tensor) else tensors_of(p))]


def streams():
    return torch.get_rng_state(), random.getstate(), np.random.get_state()[1:3]  # noqa: NPY002 - the user's


def trained(case, *, recorded):
    """All that a training step leaves behind: losses, gradients, tensors, random streams."""
    step, data, model = case.build()
    if recorded:
        _, losses = record(step, *data)
    else:
        losses = step(*data)
        losses = losses if isinstance(losses, tuple) else (losses,)
    sum(loss.sum() for loss in losses).backward()
    tensors = tensors_of(model)
    grads = [t.grad for t in tensors]
    return [*losses, *tensors, *grads, *data], streams()


def same(a, b):
    """Bit for bit; data may hold NaN, which equals nothing."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a is b
    a, b = (t if t.layout is torch.strided else t.to_dense() for t in (a, b))
    return torch.equal(a, b) or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("case", CASES, ids=names)
def test_recording_leaves_everything_bit_identical(case):
    plain, plain_streams = trained(case, recorded=False)
    watched, watched_streams = trained(case, recorded=True)

    assert all(same(a, b) for a, b in zip(plain, watched, strict=True))
    assert torch.equal(plain_streams[0], watched_streams[0])
    assert plain_streams[1] == watched_streams[1]
    assert np.array_equal(plain_streams[2][0], watched_streams[2][0])


class Keeping(Recorder):
    """Keeps what random functions gave, by slot, so that a replay can be fed the same."""

    def __init__(self):
        super().__init__()
        self.drawn = {}

    def _note(self, func, name, *rest, **grad):
        before, out = len(self.tape.ops), rest[-1]
        super()._note(func, name, *rest, **grad)
        if len(self.tape.ops) > before and (
            name in RANDOM or "dropout" in name or name == "multi_head_attention_forward"
        ):
            op = self.tape.ops[-1]
            value = out[0] if isinstance(out, tuple) else out
            self.drawn[(op.writes or op.outs)[0]] = value.detach().double().clone()


@pytest.mark.parametrize("case", SPELLINGS, ids=names)
def test_a_replay_fed_the_recorded_noise_gives_the_recorded_loss(case):
    step, data, _ = case.build()
    recorder = Keeping()
    with recorder:
        losses = step(*data)
    losses = losses if isinstance(losses, tuple) else (losses,)
    recorder.tape.roots.extend(recorder.slot_of(loss) for loss in losses)
    tape = recorder.finished()
    as_recorded = {s.index: s.value for s in tape.slots if s.trainable and s.value is not None}

    got = Replay(tape, as_recorded).run(tape.roots, feed=recorder.drawn)

    for loss, root in zip(losses, tape.roots, strict=True):
        assert float(got[root].detach()) == pytest.approx(float(loss.detach()), rel=LOW_PRECISION.get(case.name, 2e-5))


def step_of(model):
    def step(x):
        y, mu, lv = model(x)
        return sse(y, x) + kl_sum(mu, lv)

    return step


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE(norm=True)


def test_a_replay_touches_neither_model_nor_streams(model):
    tape, _ = record(step_of(model), torch.rand(B, D))
    before, rng = [t.clone() for t in tensors_of(model)], torch.get_rng_state()

    got = Replay(tape).run(tape.roots)[tape.roots[0]]
    got.backward()

    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(model), strict=True))
    assert all(t.grad is None for t in model.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.get_default_dtype() == torch.float32


def test_a_replay_is_in_float64_and_repeats_itself(model):
    tape, _ = record(step_of(model), torch.rand(B, D))
    replay, root = Replay(tape), tape.roots[0]

    first, again, other = (replay.run([root], seed=seed)[root] for seed in (0, 0, 1))

    assert first.dtype == torch.float64
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_parameters_are_followed_and_data_is_kept(model):
    x = torch.rand(B, D)
    tape, _ = record(step_of(model), x)
    root = tape.roots[0]
    first = Replay(tape).run([root])[root]

    x.zero_()
    assert torch.equal(Replay(tape).run([root])[root], first)
    with torch.no_grad():
        model.head.bias.add_(1)
    assert not torch.equal(Replay(tape).run([root])[root], first)


def test_given_parameters_take_the_place_of_the_current(model):
    tape, _ = record(step_of(model), torch.rand(B, D))
    given = {s.index: s.value.detach().clone() for s in tape.slots if s.trainable and s.value is not None}
    root = tape.roots[0]
    first = Replay(tape, given).run([root])[root]

    with torch.no_grad():
        model.head.bias.add_(1)

    assert torch.equal(Replay(tape, given).run([root])[root], first)


def test_feeding_cuts_off_what_lies_above(model):
    tape, _ = record(step_of(model), torch.rand(B, D))
    linear = next(op for op in tape.ops if op.name == "linear")
    zeros = torch.zeros(tape.slots[linear.outs[0]].shape, dtype=torch.float64)

    got = Replay(tape).run([linear.outs[0], linear.reads[0]], feed={linear.outs[0]: zeros})

    assert torch.equal(got[linear.outs[0]], zeros)


def test_evaluation_mode_can_be_asked_for():
    torch.manual_seed(0)
    model = VAE(drop=0.5)
    tape, _ = record(lambda x: model.body(x).sum(), torch.rand(B, D))
    replay, root = Replay(tape), tape.roots[0]

    runs = [replay.run([root], training=False, seed=s)[root] for s in (0, 1)]

    assert torch.equal(*runs)
    assert not torch.equal(replay.run([root], training=True)[root], runs[0])


# ---------------------------------------------------------------- in-place functions
def test_data_overwritten_in_the_step_is_kept_as_it_was():
    w = nn.Parameter(torch.ones(3))

    def step(x):
        loss = (x * w).sum()
        x.zero_()
        return loss

    x = torch.tensor([1.0, 2.0, 3.0])
    tape, _ = record(step, x)
    assert float(Replay(tape).run(tape.roots)[tape.roots[0]].detach()) == 6.0


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.mul_(2).add_(1),
        lambda h: F.relu(h, inplace=True),
        lambda h: h.view(-1).mul_(3),
        lambda h: h[0].fill_(5.0),
        lambda h: h.__setitem__((slice(None), 0), 4.0),
        lambda h: torch.mul(h.detach(), 2, out=h.detach()),
        lambda h: h.copy_(torch.ones_like(h)),
        lambda h: F.dropout(h, 0.0, training=True, inplace=True),
        lambda h: h.detach().unbind(0)[1].neg_(),
        lambda h: torch.nn.init.constant_(h.detach(), 0.5),
    ],
)
def test_a_change_in_place_is_replayed(change):
    w = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))

    def step(x):
        h = x * w
        change(h)
        return (h * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum()

    tape, (loss,) = record(step, torch.tensor([[1.0, 1.5], [-2.0, 0.5]]))
    assert float(Replay(tape).run(tape.roots)[tape.roots[0]].detach()) == float(loss.detach())


def test_an_augmented_assignment_makes_a_new_version():
    w = nn.Parameter(torch.tensor([2.0]))

    def step(x):
        total = x * w
        before = total.clone()
        total += 10
        total *= before
        return total.sum()

    tape, (loss,) = record(step, torch.tensor([3.0]))
    assert float(loss.detach()) == 96.0
    assert float(Replay(tape).run(tape.roots)[tape.roots[0]].detach()) == 96.0


# ---------------------------------------------------------------- what is on the tape
def test_only_what_the_roots_need_is_kept():
    model = VAE()

    def step(x):
        x.mean(), model(x.flip(0))[0].abs().mean()
        return step_of(model)(x)

    lean, _ = record(step_of(model), torch.rand(B, D))
    padded, _ = record(step, torch.rand(B, D))
    assert [op.name for op in padded.ops] == [op.name for op in lean.ops]


def test_the_same_program_has_the_same_key(model):
    a, _ = record(step_of(model), torch.rand(B, D))
    b, _ = record(step_of(model), torch.rand(B, D))
    other_model, _ = record(step_of(VAE()), torch.rand(B, D))
    assert a.shape_key() == b.shape_key() != other_model.shape_key()


def test_places_are_lines_of_the_user(model):
    tape, _ = record(step_of(model), torch.rand(B, D))
    draw = next(op for op in tape.ops if op.random)
    assert draw.place.file == reparameterise.__code__.co_filename
    assert draw.place.line == reparameterise.__code__.co_firstlineno + 1


def test_a_normal_with_tensors_is_a_standard_draw_scaled_and_shifted():
    w = nn.Parameter(torch.ones(2))
    tape, _ = record(
        lambda m, s: (torch.normal(m, s) * w).sum(),
        torch.tensor([5.0, 6.0]),
        torch.tensor([2.0, 0.0]),
    )
    draw = next(op for op in tape.ops if op.random)

    got = Replay(tape).run(tape.roots, feed={draw.outs[0]: torch.tensor([1.0, 1.0]).double()})

    assert float(got[tape.roots[0]].detach()) == 5 + 2 + 6


def test_running_statistics_are_read_as_they_were(model):
    tape, _ = record(step_of(model), torch.rand(B, D))
    given = {s.index: s.value for s in tape.slots if s.trainable and s.value is not None}
    norm = next(op for op in tape.ops if op.name == "batch_norm")
    mean = norm.reads[1]

    assert not Replay(tape, given).external(mean).any()
    assert torch.equal(Replay(tape).external(mean), model.body[1].running_mean.double())


def test_gradients_and_queries_are_not_recorded(model):
    model(torch.rand(B, D))[0].sum().backward()

    def step(x):
        norms = [p.grad.norm() for p in model.decoder.parameters()]
        assert len(norms) > 0
        assert x.shape[0] == B
        assert x.dtype == torch.float32
        return step_of(model)(x)

    tape, _ = record(step, torch.rand(B, D))
    assert "norm" not in {op.name for op in tape.ops}
    assert not any(op.func == Tensor.grad.__get__ for op in tape.ops)


def test_standby_waits_for_autograd(model):
    recorder = Recorder(standby=True)
    with recorder:
        x = torch.rand(B, D) * 2 - 1
        x = x.clamp(-1, 1)
        assert "clamp" not in {op.name for op in recorder.tape.ops}
        loss = step_of(model)(x)
    recorder.tape.roots.append(recorder.slot_of(loss))

    assert next(op for op in recorder.tape.ops if not op.random).name == "linear"
    assert Replay(recorder.finished()).run(recorder.tape.roots)


def test_a_paused_recorder_writes_nothing(model):
    recorder = Recorder()
    with recorder:
        recorder.paused += 1
        step_of(model)(torch.rand(B, D))
        recorder.paused -= 1
    assert recorder.tape.ops == []


def test_too_long_a_step_is_given_up(model, monkeypatch):
    monkeypatch.setattr(recorders, "MOST_OPS", 5)
    recorder = Recorder()
    with recorder:
        loss = step_of(model)(torch.rand(B, D))
    assert recorder.overflow
    assert len(recorder.tape.ops) == 5
    assert loss.requires_grad


def test_our_mistakes_stay_ours(model, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(Recorder, "_note", broken)
    recorder = Recorder()
    with recorder:
        loss = step_of(model)(torch.rand(B, D))
    assert isinstance(recorder.error, ZeroDivisionError)
    assert torch.isfinite(loss)


def test_the_users_mistakes_stay_theirs():
    with pytest.raises(RuntimeError, match="shape"), Recorder():
        torch.rand(2, 3) @ torch.rand(2, 3)


def test_a_replay_says_where_it_failed(model):
    tape, _ = record(step_of(model), torch.rand(B, D))
    linear = next(op for op in tape.ops if op.name == "linear")

    with pytest.raises(ReplayFailed, match=r"`linear` \(line \d+ of .*steps.py\)"):
        Replay(tape).run(tape.roots, feed={linear.reads[0]: torch.zeros(2, 3, dtype=torch.float64)})


def test_a_step_of_integers_is_widened_where_it_becomes_floating():
    w = nn.Parameter(torch.ones(d))
    tape, (loss,) = record(lambda x: (x.float() * w).sum() + (x.to(torch.float32) * w).sum(), torch.arange(d))
    assert float(Replay(tape).run(tape.roots)[tape.roots[0]].detach()) == float(loss.detach())


def in_place():
    """The tape of noise that is scaled and shifted in place, with the slots of the draw, of a copy and of the sum."""
    recorder = Recorder()
    with recorder:
        noise = torch.randn(5, 3)
        copy = noise.clone()
        noise.mul_(torch.full((5, 3), 7.0)).add_(1.0)
        total = noise.sum() + 0 * copy.mean()
    recorder.tape.roots.append(recorder.slot_of(total))
    tape = recorder.finished()
    return tape, *(next(op.outs[0] for op in tape.ops if op.name == name) for name in ("randn", "clone", "sum"))


def test_a_slot_is_what_it_was_before_it_was_changed_in_place():
    tape, noise, copy, total = in_place()
    got = Replay(tape).run([noise, copy, total])
    torch.testing.assert_close(got[noise], got[copy])
    assert float(got[total]) == pytest.approx(float((got[copy] * 7 + 1).sum()))


def test_what_is_fed_is_not_changed_in_place():
    tape, noise, _, total = in_place()
    fed = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    got = Replay(tape).run([total], feed={noise: fed})
    (slope,) = torch.autograd.grad(got[total], fed)
    assert float(fed.detach().sum()) == 15
    torch.testing.assert_close(slope, torch.full_like(fed, 7))
