"""Where arms run: processes of this machine, or of a Ray cluster. One call for all: `run_all`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from whyvae.cluster import Cluster, Lost
from whyvae.treat.arm import Spec

JSON = dict[str, Any]
Engine = Callable[[Sequence["Task"]], Iterator[tuple[str, JSON]]]
KEPT = ("result.json", "samples.npz")


@dataclass(frozen=True, slots=True)
class Task:
    """An arm with its name, the seconds it may take (None: as long as it takes), and whether its output is
    shown, on stdout or on stderr, or kept in its folder.
    """

    name: str
    spec: Spec
    limit: float | None = None
    shown: Literal["", "stdout", "stderr"] = ""


def local(jobs: int) -> Engine:
    """Arms in processes of this machine, `jobs` at a time, in the order they end."""

    def run_all(tasks: Sequence[Task]) -> Iterator[tuple[str, JSON]]:
        from joblib import Parallel, delayed

        threads = str(max(1, (os.cpu_count() or 1) // jobs))  # for all arms alike: their number changes last bits
        parallel = Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered")
        yield from parallel(delayed(_named)(task, threads) for task in tasks)

    return run_all


def _named(task: Task, threads: str) -> tuple[str, JSON]:
    return task.name, run_arm(task, {"OMP_NUM_THREADS": threads})


def run_arm(task: Task, environment: dict[str, str] | None = None) -> JSON:
    """The result of one arm; what it left before is taken if it is the same arm. A failure is a result too."""
    folder = Path(task.spec.folder)
    folder.mkdir(parents=True, exist_ok=True)
    said = json.dumps(task.spec.to_dict(), sort_keys=True)
    spec, result = folder / "spec.json", folder / "result.json"
    if result.is_file() and spec.is_file() and spec.read_text(encoding="utf-8") == said:
        done: JSON = json.loads(result.read_text(encoding="utf-8"))
        return done
    result.unlink(missing_ok=True)
    spec.write_text(said, encoding="utf-8")
    command = [sys.executable, "-m", "whyvae.treat.arm", str(spec)]
    with (folder / "output.txt").open("w", encoding="utf-8") as log:
        output = {"": log, "stdout": None, "stderr": sys.stderr}[task.shown]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter on our own module
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=None if task.shown else log, env={**(environment or {}), **os.environ},
            start_new_session=not task.shown,
        )  # fmt: skip
        ended = _waited(process, task)
    if not ended:
        return {"failed": f"no end within {task.limit:.0f} s"}
    if not result.is_file():
        last = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"failed": f"ended with status {process.returncode}" + (f": {last[-1]}" if last else "")}
    found: JSON = json.loads(result.read_text(encoding="utf-8"))
    return found


def _waited(process: subprocess.Popen[bytes], task: Task) -> bool:
    """Did it end within its time? With us, it ends as well."""
    try:
        process.wait(task.limit)
    except subprocess.TimeoutExpired:
        _stop(process)
        return False
    except BaseException:
        if not task.shown:
            _stop(process)
        else:
            process.wait()  # it got the same Ctrl-C, and examines what it has
        raise
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows
        process.kill()
    process.wait()


def ray_cluster(address: str | None, gpus: float = 0.0) -> Engine:
    """Arms on a Ray cluster: see `whyvae.cluster`."""
    cluster = Cluster(address, gpus)

    def run_all(tasks: Sequence[Task]) -> Iterator[tuple[str, JSON]]:
        waiting = {cluster.call(_on_worker, task): task for task in tasks}
        while waiting:
            ended, found = cluster.first(waiting)
            task = waiting.pop(ended)
            result, files = ({"failed": str(found)}, {}) if isinstance(found, Lost) else found
            _written(Path(task.spec.folder), task.spec, files)
            yield task.name, result

    return run_all


def _on_worker(task: Task) -> tuple[JSON, dict[str, bytes]]:
    """On a node that may share no disk with us: in a folder of its own, whose files come back as bytes."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="whyvae-arm-") as folder:
        result = run_arm(replace(task, spec=replace(task.spec, folder=folder)))
        files = {name: (Path(folder) / name).read_bytes() for name in KEPT if (Path(folder) / name).is_file()}
    return result, files


def _written(folder: Path, spec: Spec, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec.to_dict(), sort_keys=True), encoding="utf-8")
    for name, content in files.items():
        (folder / name).write_bytes(content)
