"""Trains and examines the bank of injected faults: one line of JSON a patient, resumable, in parallel.

    python -m bench.bank --out FOLDER [--jobs 2] [--first N] [--only REGEX] [--draw SEED] [--exam] [--show ID]

Every patient runs in a process of its own, forked from a worker that has imported torch. Run again after an interrupt:
patients that are done are left out. `--slots GLOB`: lock one of these files while a patient runs (a shared machine).
"""

from __future__ import annotations

import argparse
import fcntl
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.bank.patient import data_file, examined, script_of
from bench.bank.plan import ROUNDS, Spec, plan

LIMIT = 700  # seconds for one patient


def main() -> None:
    options = _options()
    (options.out / "data").mkdir(parents=True, exist_ok=True)
    planned = [s for s in plan(options.rounds, options.draw) if s.exam or not options.exam]
    chosen = [s for s in planned[: options.first] if re.search(options.only, _line(s))]
    if options.show:
        spec = next(s for s in planned if s.id == options.show)
        print(script_of(spec, data_file(spec, options.out / "data")).text)
        return
    done = done_in(options.out)
    waiting = [s for s in chosen if s.id not in done]
    print(f"{len(chosen)} patients, {len(chosen) - len(waiting)} done", flush=True)
    import torch  # before the forks, so that they need not

    torch.set_num_threads(1)
    from whyvae.rule import all_rules

    all_rules()  # loaded once, before the forks

    begin, running = time.perf_counter(), []
    for worker in range(options.jobs):
        child = os.fork()
        if child == 0:
            _work(waiting[worker :: options.jobs], options)
            os._exit(0)
        running.append(child)
    for child in running:
        os.waitpid(child, 0)
    print(f"done in {time.perf_counter() - begin:.0f} s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--first", type=int, help="only so many of the plan")
    parser.add_argument("--draw", type=int, default=0, help="seed of the plan: another one draws other patients")
    parser.add_argument("--exam", action="store_true", help="only patients of the exam's families and seeds")
    parser.add_argument("--only", default="", help="regular expression on a patient's line")
    parser.add_argument("--slots", default="", help="files to lock, one while a patient runs")
    parser.add_argument("--show", default="", metavar="ID", help="print the script of a patient and stop")
    return parser.parse_args()


def _line(spec: Spec) -> str:
    kind = "+".join(f"{name}:{level}" for name, level in spec.faults) or f"healthy:{spec.twist}"
    base = spec.base
    return f"{spec.id} {kind} {base.family}-{base.architecture}-{base.likelihood} {spec.style.layout} {spec.form} {spec.seed}"


def done_in(out: Path) -> dict[str, dict[str, Any]]:
    """id -> result, over all workers' files."""
    lines = (line for path in sorted(out.glob("patients-*.jsonl")) for line in path.read_text().splitlines())
    return {row["id"]: row for row in map(json.loads, lines)}


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _work(specs: list[Spec], options: argparse.Namespace) -> None:
    commit = _commit()
    for spec in specs:
        if spec.id in done_in(options.out):
            continue
        with _slot(options.slots), tempfile.TemporaryDirectory() as scratch:
            result = {**_forked(spec, options.out / "data", Path(scratch)), "commit": commit}
        with (options.out / f"patients-{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        found = " ".join(f["code"] for f in result.get("found", []))
        quality = result.get("quality")
        print(f"{_line(spec)}: {'+'.join(spec.codes) or 'healthy'} -> {result['verdict']} {found} "
              f"quality {'-' if quality is None else f'{quality:.2f}'} {result['seconds']} s {result.get('error', '')[-150:]}", flush=True)  # fmt: skip


def _forked(spec: Spec, data: Path, scratch: Path) -> dict[str, Any]:
    """`examined` in a child: what it leaves behind, its crash or its endlessness costs one patient."""
    path, begin = scratch / "result.json", time.perf_counter()
    child = os.fork()
    if child == 0:
        os.chdir(scratch)
        os.setpgid(0, 0)
        _silence(scratch)
        path.write_text(json.dumps(examined(spec, data, scratch), default=str))
        os._exit(0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.perf_counter() - begin > LIMIT:
            os.killpg(child, 9)
            os.waitpid(child, 0)
            break
        time.sleep(0.05)
    if not path.exists():
        return {
            **spec.to_dict(),
            "verdict": "failed",
            "error": "killed or crashed",
            "seconds": time.perf_counter() - begin,
        }
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _silence(scratch: Path) -> None:
    descriptor = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())


@contextmanager
def _slot(pattern: str) -> Iterator[None]:
    if not pattern:
        yield
        return
    while True:
        for name in sorted(glob.glob(pattern)):  # noqa: PTH207 - a pattern of absolute paths
            with Path(name).open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
        time.sleep(0.3)


if __name__ == "__main__":
    main()
