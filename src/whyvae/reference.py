"""A healthy VAE of our own on a user's data: trained under our own watch, judged by our own rules."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whyvae.api import examine_subject, unused_folder
from whyvae.data import Codec, Dataset
from whyvae.evaluation import Evaluation, evaluate
from whyvae.models.build import ModelConfig, resolved
from whyvae.pictures import write_grid
from whyvae.report import Report
from whyvae.sampling import draws, generated, in_source_type
from whyvae.train import train
from whyvae.training.checkpoint import atomically
from whyvae.training.run import JSON, Told, TrainConfig, Trained, length
from whyvae.watch.direct import BATCH, BATCHES, record, watch_model
from whyvae.watch.neutral import neutral
from whyvae.watch.step import Step
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

SHOWN = 64  # samples in the run folder


@dataclass(frozen=True)
class Outcome:
    trained: Trained
    evaluation: Evaluation
    report: Report


def train_and_examine(
    data: Dataset, model_config: ModelConfig, config: TrainConfig, folder: Path, *, resume: bool = False,
    told: Told = lambda _: None, between: Callable[[Trained, Evaluation], None] = lambda *_: None,
    judge: Callable[[Trained, Dataset], Evaluation] = evaluate,
) -> Outcome:  # fmt: skip
    """Trains into `folder` and examines what came of it; `between` hears of the model, as `judge` found it, before it is examined.

    Raises:
        what `whyvae.train.train` raises; NothingSeen where our own rules do not find a VAE in it.
    """
    watcher = Watcher()
    with contextlib.nullcontext() if config.compile else watcher:  # who watches compiled code makes it compile again
        trained = train(data, model_config, config, folder, resume=resume, told=told)
        rows = generated(trained, draws(trained, SHOWN, "prior", None, config.seed))
    write_samples(rows, trained.codec, folder / "samples.npy")
    evaluation = judge(trained, data)
    atomically(folder / "evaluation.json", (json.dumps(evaluation.to_dict(), indent=1) + "\n").encode())
    between(trained, evaluation)
    subject = _unwatched(trained, data) if config.compile else _watched(trained, data, watcher)
    report = examine_subject(subject)
    atomically(folder / "record.json", report.to_json().encode())
    return Outcome(trained, evaluation, report)


def _watched(trained: Trained, data: Dataset, watcher: Watcher) -> Subject:
    """What was seen, and a step with the weights and the noise variance that were kept: the last ones lie behind the best."""
    x = _seen(trained, data, trained.config.batch)
    trained.model.train()
    with torch.random.fork_rng():
        tape = record(lambda: _loss(trained, x))
        watcher.recordings.keep(Step(tape, watcher.count, float(_loss(trained, x).detach())))
    trained.model.eval()
    with neutral():
        return Subject.of(watcher, data.source)


def _unwatched(trained: Trained, data: Dataset) -> Subject:
    subject = watch_model(trained.model, _seen(trained, data, BATCH * BATCHES), lambda _, x: _loss(trained, x))
    subject.script = data.source
    return subject


def _seen(trained: Trained, data: Dataset, count: int) -> Tensor:
    """Rows that were trained on, in the model's unit."""
    which = np.setdiff1d(np.arange(len(data)), trained.held_out(data))[:count]
    return trained.codec.encode(data.take(which))


def _loss(trained: Trained, x: Tensor) -> Tensor:
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    nll, kl, _ = trained.model(x.contiguous(memory_format=layout))
    mean: Tensor = (nll + trained.config.kl_weight * kl).mean()
    return mean


def new_folder(out: Path, source: str) -> Path:
    """Makes the run folder of a training on `source`."""
    stem = Path(source.replace(":", "-")).name.partition(".")[0] or "data"
    folder = unused_folder(out, stem)
    folder.mkdir(parents=True)
    return folder


def write_settings(folder: Path, reading: JSON, data: Dataset, model_config: ModelConfig, config: TrainConfig) -> None:
    """`config.json`: what a resumed run reads; nothing in it is left open. `reading` is how `data` was loaded."""
    held = {
        "data": reading, "model": resolved(model_config, data).to_dict(), "train": asdict(length(config, len(data))),
    }  # fmt: skip
    atomically(folder / "config.json", (json.dumps(held, indent=1) + "\n").encode())


def read_settings(folder: Path) -> tuple[JSON, ModelConfig, TrainConfig]:
    """
    Raises:
        OSError, ValueError: not a run folder of `whyvae train`.
    """
    held = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return held["data"], ModelConfig.from_dict(held["model"]), TrainConfig(**held["train"])


def write_samples(rows: Tensor, codec: Codec, path: Path) -> list[Path]:
    """`path` (.npy), and beside it a picture of images or a .csv of a table. Returns what was written."""
    values = in_source_type(rows, codec)
    np.save(path, values)
    written = [path]
    if codec.kind == "image" and write_grid(values[:SHOWN], codec.low, codec.high, path.with_suffix(".png")):
        written.append(path.with_suffix(".png"))
    if codec.kind == "table":
        _write_table(values, codec, path.with_suffix(".csv"))
        written.append(path.with_suffix(".csv"))
    return written


def _write_table(values: Any, codec: Codec, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([c.name for c in codec.columns])
        for row in values.tolist():
            cells = zip(row, codec.columns, strict=True)
            writer.writerow([c.levels[round(v)] if c.levels else f"{v:.6g}" for v, c in cells])
