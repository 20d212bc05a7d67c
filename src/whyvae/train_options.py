"""Options that `train` and `tune` have in common, and what they become: how data is read, a model, a training."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whyvae.data import Dataset
    from whyvae.models.build import ModelConfig
    from whyvae.training.run import TrainConfig

DATA = "folder of images, .npy .npz .pt .safetensors .csv .parquet, IDX, sklearn:digits, torchvision:NAME, hf:NAME, module:callable"
FAMILIES = ("auto", "mlp", "linear", "conv", "sequence", "recurrent")
LIKELIHOODS = ("auto", "gaussian", "gaussian-per-feature", "bernoulli", "categorical", "logistic-mixture", "mixed")
KINDS = ("image", "sequence", "table", "vector")
SCHEDULES = ("cosine", "step", "plateau", "one-cycle", "none")
FRACTIONS = (  # of TrainConfig: its default, and what it is
    ("warmup", 0.02, "share of the steps over which the learning rate rises"),
    ("weight_decay", 0.01, "of AdamW, on matrices"),
    ("kl_weight", 1.0, "of the KL term"),
    ("kl_warmup", 0.05, "share of the steps over which the KL weight rises"),
    ("clip", 5.0, "gradients longer than so many times the usual length are shortened; 0: never"),
    ("ema", 0.999, "decay of the averaged weights, which are the ones kept; 0: none"),
    ("patience", 0.25, "stop after this share of the steps without a better held-out ELBO"),
    ("held_out", 0.1, "share of the examples that is not trained on"),
    ("checkpoint_seconds", 15.0, "between checkpoints, at least"),
)
READING = ("kind", "label", "size", "stream", "download")
MODEL = ("family", "latents", "widths", "blocks", "likelihood", "prior")
TRAINING = ("steps", "batch", "lr", "schedule", "seed", "device", "amp", "compile", *(name for name, *_ in FRACTIONS))
Commands = Any  # argparse's own name for it is private


def add_data(command: Any, resumed: str) -> None:
    add = command.add_argument
    add("data", metavar="DATA", nargs="?", help=DATA)
    add("--resume", metavar="RUN", help=resumed)
    add("--out", metavar="DIR", default="whyvae-runs", help="where the run folder goes (%(default)s)")
    add("--json", metavar="PATH", help="write the record there; - for stdout")


def add_settings(command: Any) -> None:
    """Of the data, the model and the training."""
    _reading_options(command.add_argument_group("data"))
    _model_options(command.add_argument_group("model"))
    _training_options(command.add_argument_group("training"))


def _reading_options(group: Any) -> None:
    add = group.add_argument
    add("--kind", choices=KINDS, help="what a row is (default: by its shape)")
    add("--label", metavar="COLUMN", help="of a table: the column that is no part of an example")
    add("--size", metavar="N", type=int, help="of a folder: make all images N x N")
    add(
        "--stream",
        action="store_true",
        default=None,
        help="read a .npy from the disk as rows are needed (default: if large)",
    )
    add("--download", action="store_true", help="let torchvision: and hf: names fetch what is missing")


def _model_options(group: Any) -> None:
    add = group.add_argument
    add("--family", choices=FAMILIES, default="auto", help="(default: by the data)")
    add("--latents", metavar="N", type=int, default=0, help="latent units (default: by the data)")
    add("--widths", metavar="N,N", type=_numbers, default=(), help="hidden layers, or channels at each size")
    add("--blocks", metavar="N", type=int, default=0, help="residual blocks at each size of an image (%(default)s)")
    add("--likelihood", choices=LIKELIHOODS, default="auto", help="(default: by the data)")
    add("--prior", choices=("standard", "mixture", "vamp"), default="standard", help="(%(default)s)")


def _training_options(group: Any) -> None:
    add = group.add_argument
    add("--steps", metavar="N", type=int, default=0, help="(default: by the number of examples)")
    add("--batch", metavar="N", type=int, default=128, help="(%(default)s)")
    add("--lr", metavar="X", type=float, default=2e-3, help="(%(default)s)")
    add("--schedule", choices=SCHEDULES, default="cosine", help="of the learning rate (%(default)s)")
    add("--seed", metavar="N", type=int, default=0, help="(%(default)s)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(%(default)s)")
    add("--amp", action="store_true", help="mixed precision (bfloat16)")
    add("--compile", action="store_true", help="torch.compile")
    for name, default, what in FRACTIONS:
        option = "--" + name.replace("_", "-")
        add(option, metavar="X", type=float, default=default, help=f"{what} (%(default)s)")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between") from None


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `whyvae.data.load`; a path is kept whole, for whoever resumes from another folder."""
    source = str(Path(options.data).resolve()) if Path(options.data).exists() else options.data
    return {**{name: getattr(options, name) for name in READING}, "source": source}


def settings_of(options: argparse.Namespace) -> tuple[ModelConfig, TrainConfig]:
    from whyvae.models.build import ModelConfig
    from whyvae.training.run import TrainConfig

    model = ModelConfig(**{name: getattr(options, name) for name in MODEL})
    return model, TrainConfig(**{name: getattr(options, name) for name in TRAINING})


def told_in_one_line() -> tuple[type[Exception], ...]:
    """Errors that say what the user can do."""
    from whyvae.cluster import NoCluster
    from whyvae.data import DataError
    from whyvae.models.build import Unfit
    from whyvae.training.checkpoint import BrokenCheckpoint
    from whyvae.training.run import TrainingFailed

    return DataError, NoCluster, Unfit, BrokenCheckpoint, TrainingFailed, OSError


def loaded(options: argparse.Namespace, reading: dict[str, Any]) -> Dataset:
    from whyvae.data import load

    data = load(**reading)
    say(options, data.describe())
    for note in data.notes:
        say(options, f"  {note}")
    return data


def rank() -> int:
    """Which of the processes that `torchrun` started this is."""
    return int(os.environ.get("RANK", "0"))


def say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet and rank() == 0:
        print(text, file=sys.stderr if options.json == "-" else None, flush=True)
