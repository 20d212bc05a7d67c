"""A data set that a step picks its batch from is not widened for the batch's sake."""

import pytest
import torch

from whyvae.watch import replay as replays
from whyvae.watch.direct import record
from whyvae.watch.replay import Replay


@pytest.fixture
def widened(monkeypatch):
    """Slots that were copied whole; everything from outside counts as large."""
    seen = []
    original = Replay.external

    def external(self, index):
        seen.append(index)
        return original(self, index)

    monkeypatch.setattr(Replay, "external", external)
    monkeypatch.setattr(replays, "LARGE", 10)
    return seen


def taped(pick, kind=torch.float32):
    """(replay of `pick(x)` times a weight, its last slot, slot of x, x)."""
    x = (100 * torch.rand(50, 3, generator=torch.Generator().manual_seed(0))).to(kind)
    weight = torch.ones(3, requires_grad=True)

    def step():
        return (pick(x) * weight).sum()

    tape = record(step)
    slot = next(s.index for s in tape.slots if s.value is not None and s.shape == (50, 3))
    return Replay(tape), tape.roots[0], slot, x


PICKS = {
    "indices": lambda x: x[torch.tensor([3, 7, 7])],
    "slice": lambda x: x[10:14],
    "index_select": lambda x: x.index_select(0, torch.tensor([1, 2])),
    "narrow": lambda x: x.narrow(0, 5, 4),
    "select": lambda x: x.select(0, 9),
}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize("name", PICKS)
def test_a_batch_is_picked_before_it_is_widened(widened, name, kind):
    replay, root, slot, x = taped(PICKS[name], kind)
    value = replay.run([root])[root].detach()
    assert value.dtype == torch.float64
    assert float(value) == pytest.approx(float(PICKS[name](x).double().sum()), rel=1e-12)
    assert slot not in widened


def test_a_slice_changed_in_place_leaves_the_users_data_alone(widened):
    replay, root, slot, x = taped(lambda x: x[10:14].mul_(2), torch.float64)
    before = x.clone()
    replay.run([root])
    assert torch.equal(x, before)
    assert slot in widened


def test_data_that_the_step_itself_changes_is_copied_whole(widened):
    replay, root, slot, x = taped(lambda x: x.add_(1)[10:14])
    first, second = (float(replay.run([root])[root].detach()) for _ in range(2))
    assert first == second == pytest.approx(float(x[10:14].double().sum()), rel=1e-6)
    assert slot in widened


def test_what_is_not_picked_is_copied_whole(widened):
    replay, root, slot, _ = taped(lambda x: x * 2)
    replay.run([root])
    assert slot in widened
