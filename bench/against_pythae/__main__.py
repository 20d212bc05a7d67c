"""Our VAE beside pythae's, on the CPU.

    OMP_NUM_THREADS=1 python -m bench.against_pythae [--mnist FOLDER] [--only speed|quality] [--data digits,MNIST] [--seeds 1] [--pairs 7]
        [--out against_pythae.json] [--page docs/against_pythae.md]

1. Throughput: the same network, batch size and number of steps, in turns; pythae's time over ours with its 95 %
   interval (goal 3).
2. Quality: the defaults of each on digits and MNIST (its 10,000 test pictures), in [0, 1], in 0-255 and standardised:
   held-out -log p(x), density and coverage of samples (goal: ahead).

What was measured before stands in --out and is not measured again; --page writes it down.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from bench.against_pythae import quality, speed, theirs
from bench.against_pythae.page import page
from bench.overhead import MNIST

DATA = ("digits", "MNIST")


def provenance() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - git is wherever it is
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    names = ("torch", "numpy", "pythae")
    return {
        "commit": commit, "versions": {name: version(name) for name in names}, "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(), "load": os.getloadavg()[0],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--mnist", type=Path, default=MNIST, help="folder with the idx files; without them digits only")
    add("--only", choices=("speed", "quality"))
    add("--data", default=",".join(DATA))
    add("--seeds", type=int, default=1)
    add("--pairs", type=int, default=7)
    add("--seconds", type=float, default=10, help="of processor time, length of one training")
    add("--out", type=Path, default=Path("against_pythae.json"))
    add("--page", type=Path)
    add("--side", choices=speed.SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    theirs.needed()
    if options.side:
        speed.work(options.side, speed.rows_of(options.data, options.mnist))
        return
    chosen = [
        d for d in options.data.split(",") if d == "digits" or (options.mnist / "t10k-images-idx3-ubyte.gz").is_file()
    ]
    held: dict[str, Any] = (
        json.loads(options.out.read_text()) if options.out.is_file() else {"speed": {}, "quality": {}}
    )
    for key, measured in _wanted(options, chosen):
        part, name = key.split(": ", 1)
        if name not in held[part]:
            held[part][name] = {"found": measured(), **provenance()}
            options.out.write_text(json.dumps(held, indent=1) + "\n")
    text = page(held)
    print(text)
    if options.page:
        options.page.write_text(text, encoding="utf-8")


def _wanted(options: argparse.Namespace, chosen: list[str]) -> list[tuple[str, Callable[[], Any]]]:
    wanted: list[tuple[str, Callable[[], Any]]] = []
    if options.only != "quality":
        for data in chosen:
            for side in speed.SIDES[:2]:
                call = partial(speed.compared, data, side, options.mnist, options.pairs, options.seconds)
                wanted.append((f"speed: {data}, {side}", call))
    if options.only != "speed":
        for seed in range(options.seeds):
            for data in chosen:
                rows = speed.rows_of(data, options.mnist)
                for variant in quality.VARIANTS:
                    wanted.append(
                        (f"quality: {data}, {variant}, seed {seed}", partial(quality.cell, data, variant, rows, seed))
                    )
    return wanted


if __name__ == "__main__":
    main()
