"""Buffers that are copied beside the weights, where a copy of the model makes the samples."""

import pytest
from patients import TRAINER, broken, difference, edited

from whyvae.treat.remedy import NoEdit

FOLLOWS = """\
    for mine, theirs in zip(ema.parameters(), trainer.model.parameters()):
        mine.lerp_(theirs, 0.1)
"""
ENDS = "trainer.model.eval()\n"
COPY = "import copy\nema = copy.deepcopy(trainer.model)\nwith torch.no_grad():\n" + FOLLOWS


def test_behind_the_loop_over_the_weights(tmp_path):
    text = broken(TRAINER, ENDS, COPY + ENDS)
    _, lines = difference(text, edited(tmp_path, text, "copied_buffers", steps=None))
    assert lines == ["for mine, theirs in zip(ema.buffers(), trainer.model.buffers()):", "mine.copy_(theirs)"]


def test_averages_of_torch(tmp_path):
    made = "ema = torch.optim.swa_utils.AveragedModel(trainer.model{})\n"
    text = broken(TRAINER, ENDS, made.format("") + ENDS)
    assert edited(tmp_path, text, "copied_buffers", steps=None) == text.replace(
        made.format(""), made.format(", use_buffers=True")
    )


@pytest.mark.parametrize("made", [
    "ema = torch.optim.swa_utils.AveragedModel(trainer.model, use_buffers=True)\n", "",
    "for a, b in zip(range(3), trainer.model.parameters()):\n    pass\n",
])  # fmt: skip
def test_nothing_is_copied_where_no_copy_follows(tmp_path, made):
    with pytest.raises(NoEdit):
        edited(tmp_path, broken(TRAINER, ENDS, made + ENDS), "copied_buffers", steps=None)
