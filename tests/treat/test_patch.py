"""A patch can be applied by `git apply`, and by us: all files or none, and none that changed meanwhile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from whyvae.treat.patch import Changed, Patch


def made(folder: Path, old: str, new: str) -> tuple[Patch, Path]:
    script = folder / "code" / "train.py"
    script.parent.mkdir()
    script.write_bytes(old.encode())
    return Patch({str(script): old}, {str(script): new}, folder), script


@pytest.mark.parametrize("old", ["a = 1\nb = 2\n", "a = 1\nb = 2", "a = 1\r\nb = 2\r\n", "# é\na = 1\n\n\n\nb = 2\n"])
def test_git_applies_it(tmp_path, old):
    patch, script = made(tmp_path, old, old.replace("2", "3"))
    file = patch.write(tmp_path / "run")
    subprocess.run(["git", "apply", str(file)], cwd=tmp_path, check=True)  # noqa: S607
    assert script.read_bytes().decode() == old.replace("2", "3")


def test_it_is_applied_as_it_says(tmp_path):
    patch, script = made(tmp_path, "a = 1\r\n", "a = 2\r\n")
    script.chmod(0o755)
    patch.apply()
    assert script.read_bytes() == b"a = 2\r\n"
    assert script.stat().st_mode & 0o777 == 0o755
    assert [p.name for p in script.parent.iterdir()] == ["train.py"]


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path):
    patch, script = made(tmp_path, "a = 1\n", "a = 2\n")
    script.write_text("a = 1  # better\n")
    with pytest.raises(Changed, match=r"train\.py"):
        patch.apply()
    assert script.read_text() == "a = 1  # better\n"
