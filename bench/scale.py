"""What training costs as rows and steps grow: time and memory of `whyvae.train` on synthetic rows read from the disk.

    OMP_NUM_THREADS=1 python -m bench.scale [--rows 1000,10000,100000,1000000] [--steps 500,1000,2000,4000] [--features 64] [--scratch FOLDER]

Each line is a process of its own. By rows: one pass over the data (the reading that finds range and moments, and as
many steps as an epoch has). By steps: the same 10,000 rows. Printed: processor time, what a row or step costs, what
one more costs than the line above, peak memory. Cost is linear where an *added* row (step) costs the same on every
line, memory flat where its ratio stays near 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH, PART = 128, 10_000
FIXED = 10_000  # rows, where steps grow


def written(path: Path, rows: int, features: int) -> None:
    """Rows of eight directions and noise, a part at a time."""
    random = np.random.default_rng(0)
    ways = random.normal(size=(8, features))
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, features))
    for start in range(0, rows, PART):
        n = min(PART, rows - start)
        out[start : start + n] = random.normal(size=(n, 8)) @ ways + 0.3 * random.normal(size=(n, features))
    out.flush()


def one(path: Path, steps: int) -> None:
    """Trains, and prints what that took."""
    from whyvae.data import load
    from whyvae.models.build import ModelConfig
    from whyvae.train import train
    from whyvae.training.run import TrainConfig

    began = time.process_time()
    data = load(str(path), kind="vector", stream=True)
    read = time.process_time() - began
    steps = steps or len(data) // BATCH
    trained = train(data, ModelConfig(latents=8, widths=(64,)), TrainConfig(steps=steps, patience=1.0, device="cpu"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"read": read, "trained": time.process_time() - began - read, "steps": trained.steps, "memory": memory}
        )
    )


def measured(path: Path, steps: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.scale", "--one", str(path), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def table(title: str, unit: str, lines: list[tuple[int, dict[str, float]]]) -> None:
    head = (unit + "s", "reading s", "training s", f"us a {unit}", f"us an added {unit}", "MB", "MB ratio")
    print(f"\n{title}\n" + "".join(f"{name:>18}" for name in head))
    for i, (count, found) in enumerate(lines):
        total = found["read"] + found["trained"]
        before, less = (lines[i - 1][0], lines[i - 1][1]["read"] + lines[i - 1][1]["trained"]) if i else (0, 0.0)
        added = f"{1e6 * (total - less) / (count - before):.1f}" if i else ""
        share = found["memory"] / lines[0][1]["memory"]
        cells = (
            count,
            f"{found['read']:.2f}",
            f"{found['trained']:.2f}",
            f"{1e6 * total / count:.1f}",
            added,
            f"{found['memory']:.0f}",
            f"{share:.2f}",
        )
        print("".join(f"{cell:>18}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    parser.add_argument("--steps", default="500,1000,2000,4000")
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--scratch", type=Path, help="a folder with room for the largest file (256 MB)")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, int(options.steps))
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        path = Path(folder) / "rows.npy"
        by_rows, by_steps = [], []
        for rows in map(int, options.rows.split(",")):
            written(path, rows, options.features)
            by_rows.append((rows, measured(path, 0)))
        written(path, FIXED, options.features)
        for steps in map(int, options.steps.split(",")):
            by_steps.append((steps, measured(path, steps)))
    table(f"One pass over rows of {options.features} numbers, streamed, batches of {BATCH}", "row", by_rows)
    table(f"Steps on {FIXED} rows", "step", by_steps)


if __name__ == "__main__":
    main()
