"""The page of what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from bench.against_pythae import quality, speed

JSON = dict[str, Any]
HEAD = """# Beside pythae

Our VAE and that of [pythae](https://github.com/clementchadebec/benchmark_VAE), on the CPU. This page is written by `python -m bench.against_pythae --page`; nobody
edits it, and it says what was found, whatever that is.

"""


def page(held: JSON) -> str:
    parts = [HEAD + _provenance([*held["speed"].values(), *held["quality"].values()])]
    if held["speed"]:
        parts.append(_speed([entry["found"] for entry in held["speed"].values()]))
    if held["quality"]:
        parts.append(_quality([found for entry in held["quality"].values() for found in entry["found"]]))
    return "\n".join(parts)


def _provenance(entries: list[JSON]) -> str:
    commits = ", ".join(sorted({e["commit"] for e in entries}))
    versions = ", ".join(f"{name} {v}" for name, v in entries[0]["versions"].items())
    loads = [e["load"] for e in entries]
    return (
        f"- commit {commits}; {versions}; {entries[0]['cpus']} CPUs, {entries[0]['threads']} thread a process; load of the machine "
        f"{min(loads):.1f} to {max(loads):.1f} (other work went on beside it).\n"
    )


def _speed(found: list[JSON]) -> str:
    rows = [
        (
            f["data"],
            f["ours"].replace("ours", "whyvae train"),
            f["pairs"],
            _interval(f["processor"]),
            _interval(f["clock"]),
        )
        for f in found
    ]
    return f"""## Throughput

pythae's time for a step over ours: the same modules ({speed.WIDTHS[0]} hidden units, {speed.LATENTS} latents), rows, batch size ({speed.BATCH}) and number of steps;
two trainings in turns of {speed.BLOCK} steps, each with all it does besides (evaluation once an epoch; ours also follows averaged weights, clips, logs).
Median over pairs of trainings and its 95 % bootstrap interval. The goal is 3.

{_table(("data", "ours", "pairs", "by processor time", "by the clock"), rows)}"""


def _interval(values: list[float]) -> str:
    median, low, high = values
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _quality(found: list[JSON]) -> str:
    rows = []
    for data in dict.fromkeys(f["data"] for f in found):
        for variant in quality.VARIANTS:
            for model in dict.fromkeys(f["model"] for f in found):
                same = [f for f in found if (f["data"], f["variant"], f["model"]) == (data, variant, model)]
                ended = [f for f in same if "failed" not in f]
                if ended:
                    rows.append((data, variant, model, *_cells(ended)))
                failed = [f["failed"] for f in same if "failed" in f]
                if failed:
                    rows.append(
                        (
                            data,
                            variant,
                            model,
                            f"{len(failed)} of {len(same)} trainings end with {failed[0]}",
                            *[""] * 6,
                        )
                    )
    seeds = len({f["seed"] for f in found})
    head = (
        "data",
        "rows given",
        "model",
        "-log p(x), own likelihood",
        "-log p(x), variance calibrated",
        "noise sd",
        "density",
        "coverage",
        "quality",
        "processor s",
    )
    return f"""## Quality of the defaults

Both with every setting at its default: pythae's is a fully connected VAE (512 units, 10 latents, decoder ending in a sigmoid), loss N(x; output, 1), Adam
1e-4, batches of 64, 100 epochs; `whyvae train` chooses by the data. {seeds} seed(s), each with other test rows, weights and order.

- -log p(x): nats an example on rows that neither saw, for rows in [0, 1] whatever unit was given (Jacobian counted); importance-weighted bound with {quality.DRAWS} draws
  for both; ± standard error over rows, and in brackets the Monte-Carlo error.
- *own likelihood*: that of the loss the model was trained with. B marks a Bernoulli, whose cross-entropy is no density of grey values: to be compared
  with another B only.
- *variance calibrated*: Gaussian about the expected picture, with the variance that fits the training rows, for both: pythae is not charged for its fixed variance.
  The column to compare. *noise sd* is its root, in units of [0, 1].
- density and coverage of samples (expected pictures at draws of the prior) against all training rows, ± standard deviation over {quality.SAMPLE_SETS} sets of samples; real rows
  score about 1 and 0.97. A density far above 1 is no merit: samples then crowd in the middle of the data. *quality* is the harmonic mean of density,
  coverage and recall, each as a share of what real rows reach and at most 1 (`whyvae.score`).

{_table(head, rows)}"""


def _cells(same: list[JSON]) -> tuple[str, ...]:
    own = _nats([f["own"] for f in same]) if same[0]["own"] else "B " + _nats([f["bernoulli"] for f in same])
    mean = {
        name: np.mean([f[name] for f in same], axis=0) for name in ("density", "coverage", "quality", "seconds", "s")
    }
    return (
        own, _nats([f["calibrated"] for f in same]), f"{math.sqrt(mean['s']):.3f}",
        *(f"{mean[name][0]:.2f} ± {mean[name][1]:.2f}" for name in ("density", "coverage")),
        f"{mean['quality']:.2f}", f"{mean['seconds']:.0f}",
    )  # fmt: skip


def _nats(found: list[JSON]) -> str:
    count = len(found)
    nats = np.mean([f["nats"] for f in found])
    spread, error = (math.sqrt(sum(f[name] ** 2 for f in found)) / count for name in ("spread", "error"))
    return f"{nats:.1f} ± {spread:.1f} ({error:.2f})"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [[str(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
