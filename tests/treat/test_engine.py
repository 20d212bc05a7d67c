"""Arms that crash, hang or have been done before."""

import json

import pytest

from whyvae.treat.arm import Spec
from whyvae.treat.engine import Task, local, run_arm

pytestmark = pytest.mark.slow


def task(folder, text, limit=60.0, **spec):
    (folder / "train.py").write_text(text)
    return Task("arm", Spec(str(folder / "train.py"), str(folder / "arm"), **spec), limit)


def test_an_endless_script_is_stopped(tmp_path):
    result = run_arm(task(tmp_path, "while True:\n    pass\n", limit=12.0))
    assert result == {"failed": "no end within 12 s"}


def test_a_process_that_dies_is_a_result(tmp_path):
    result = run_arm(task(tmp_path, "import os\nprint('last words', flush=True)\nos._exit(7)\n"))
    assert result["failed"].startswith("ended with status 7")


def test_a_script_that_raises_is_told(tmp_path):
    result = run_arm(task(tmp_path, "raise KeyError('no such column')\n"))
    assert "no training was seen" in result["failed"]
    assert "KeyError" in result["failed"]


def test_what_is_done_is_not_done_again(tmp_path):
    once = task(tmp_path, "print(1)\n")
    run_arm(once)
    kept = tmp_path / "arm/result.json"
    kept.write_text(json.dumps({"failed": "as it was"}))
    assert run_arm(once) == {"failed": "as it was"}
    assert run_arm(task(tmp_path, "print(1)\n", offset=5))["failed"] != "as it was"  # another arm


def test_one_dead_arm_leaves_the_others(tmp_path):
    dead, well = tmp_path / "dead", tmp_path / "well"
    for folder in (dead, well):
        folder.mkdir()
    tasks = [task(dead, "import os\nos._exit(3)\n"), task(well, "print(1)\n")]
    named = [Task(name, t.spec, t.limit) for name, t in zip(("dead", "well"), tasks, strict=True)]
    found = dict(local(2)(named))
    assert found["dead"]["failed"].startswith("ended with status 3")
    assert found["well"]["failed"].startswith("no training was seen")
