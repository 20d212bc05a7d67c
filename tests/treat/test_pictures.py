"""before-after.png: what is drawn where, and that nothing hangs on it."""

import sys

import numpy as np

from whyvae.treat.pictures import before_and_after


def arms(tmp_path, shape=(1, 8, 8)):
    folders = tmp_path / "control", tmp_path / "treated"
    for folder in folders:
        folder.mkdir()
        rows = np.random.default_rng(0).random((16, *shape))
        np.savez(folder / "samples.npz", real=rows, prior=rows)
    return folders


def test_samples_of_two_arms_are_drawn(tmp_path):
    for shape in ((1, 8, 8), (6,), (2,)):
        folder = tmp_path / str(len(shape) * 10 + shape[0])
        folder.mkdir()
        made = before_and_after(*arms(folder, shape), folder / "before-after.png")
        assert made is not None
        assert made.stat().st_size > 5000


def test_without_samples_or_matplotlib_there_is_none(tmp_path, monkeypatch):
    control, treated = arms(tmp_path)
    assert before_and_after(control, tmp_path / "nothing", tmp_path / "x.png") is None
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert before_and_after(control, treated, tmp_path / "x.png") is None
