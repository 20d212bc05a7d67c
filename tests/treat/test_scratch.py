"""A trial writes to its own folder, whatever path the script names, and reads there what it wrote."""

import logging
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from whyvae.treat.scratch import scratch


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    for name in ("data", "checkpoints"):
        (folder / name).mkdir(parents=True)
    (folder / "log.txt").write_text("old\n")
    (folder / "data/x.txt").write_text("x")
    (folder / "checkpoints/model.pt").write_bytes(b"precious")
    monkeypatch.chdir(folder)
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def text_files():
    with open("log.txt", "a") as file:  # noqa: PTH123 - as scripts do it
        file.write("new\n")
    assert Path("log.txt").read_text() == "old\nnew\n"
    os.makedirs("out/deep", exist_ok=True)  # noqa: PTH103
    Path("out/deep/a.json").write_text("1")
    assert os.listdir("out/deep") == ["a.json"]  # noqa: PTH208


def arrays():
    np.save("a.npy", np.ones(3))
    assert np.load("a.npy").sum() == 3
    Path("csv").mkdir()
    np.savetxt("csv/t.csv", np.ones(3))
    np.savez("z.npz", a=np.ones(2))
    assert np.loadtxt("csv/t.csv").sum() == 3


def checkpoints():
    torch.save({"a": torch.ones(2)}, "checkpoints/model.pt")
    assert torch.load("checkpoints/model.pt")["a"].sum() == 2
    with Path("p.pkl").open("wb") as file:
        pickle.dump(1, file)


def safetensors():
    save = pytest.importorskip("safetensors.torch").save_file
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.ones(2)}, "checkpoints/m.safetensors")
    assert save is not None


def removed():
    os.remove("data/x.txt")  # noqa: PTH107
    assert not os.path.exists("data/x.txt")  # noqa: PTH110
    shutil.rmtree("checkpoints")
    assert not Path("checkpoints/model.pt").exists()


def moved():
    shutil.copy("log.txt", "copy.txt")
    os.rename("copy.txt", "moved.txt")  # noqa: PTH104
    assert Path("moved.txt").read_text() == "old\n"
    assert not Path("copy.txt").exists()
    os.replace("moved.txt", "log.txt")  # noqa: PTH105


def pictures():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure()
    FigureCanvasAgg(figure)
    figure.savefig("figure.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("image.png")
    with Image.open("image.png") as image:
        assert image.size == (4, 4)


def logs():
    handler = logging.FileHandler("a.log")
    handler.emit(logging.makeLogRecord({"msg": "said"}))
    handler.close()


@pytest.mark.parametrize(
    "script", [text_files, arrays, checkpoints, safetensors, removed, moved, pictures, logs], ids=lambda f: f.__name__
)
def test_no_file_of_the_users_is_touched(home, tmp_path, script):
    before = contents(home)
    with scratch(tmp_path / "scratch"):
        script()
    assert contents(home) == before


def test_afterwards_everything_writes_where_it_says(home, tmp_path):
    with scratch(tmp_path / "scratch"):
        pass
    Path("log.txt").write_text("mine")
    np.savetxt("t.csv", np.ones(2))
    torch.save(1, "one.pt")
    assert {"t.csv", "one.pt"} <= set(os.listdir(home))  # noqa: PTH208
    assert (home / "log.txt").read_text() == "mine"


def test_an_error_of_the_script_ends_the_guard_too(home, tmp_path):
    with pytest.raises(ZeroDivisionError), scratch(tmp_path / "scratch"):
        raise ZeroDivisionError
    Path("after.txt").write_text("1")
    assert (home / "after.txt").is_file()
