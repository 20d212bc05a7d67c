"""Rows of targets against rows of inputs, on literal tensors."""

import torch

from whyvae.probes.target import _own_row, _repeated

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
