"""Warnings of torch are shown where they would be shown without us, whichever of our modes is on."""

import warnings

import pytest
import torch

from whyvae.watch.glimpses import Glimpses
from whyvae.watch.recorder import Recorder
from whyvae.watch.warned import show_where_it_would_be_shown

SCRIPT = """
import torch
from torch.nn import functional as F

def size(a, b):
    return F.l1_loss(
        a, b)

size(torch.ones(2), torch.ones(1))
float(torch.ones(1, requires_grad=True))
torch.nn.L1Loss()(torch.ones(2), torch.ones(1))
"""


def places(mode=None):
    """(file, line, text) of each warning, in the order given."""
    seen = []
    code = compile(SCRIPT, "train.py", "exec")
    before = warnings.showwarning
    warnings.showwarning = lambda message, _, file, line, *rest: seen.append((file, line, str(message)[:30]))
    undo = show_where_it_would_be_shown() if mode is not None else lambda: None
    torch.set_warn_always(True)
    try:
        if mode is None:
            exec(code, {})  # noqa: S102 - a script
        else:
            with mode:
                exec(code, {})  # noqa: S102 - a script
    finally:
        torch.set_warn_always(False)
        undo()
        warnings.showwarning = before
    return seen


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("mode", [Recorder, lambda: Glimpses(dict)])
def test_a_warning_is_shown_at_its_line(mode):
    alone = places()
    assert [file.rsplit("/", 1)[-1] for file, _, _ in alone][:2] == ["train.py", "train.py"]
    assert len(alone) == 3
    assert places(mode()) == alone


def test_undone_it_leaves_what_it_found():
    before = warnings.showwarning
    undo = show_where_it_would_be_shown()
    assert warnings.showwarning is not before
    undo()
    assert warnings.showwarning is before
