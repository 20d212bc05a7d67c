"""`whyvae train` and `whyvae sample`: their options, and what stands between those and the exit status."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whyvae.command_run import FINDINGS, HEALTHY, complain
from whyvae.train_options import (
    Commands,
    add_data,
    add_settings,
    loaded,
    rank,
    reading_of,
    say,
    settings_of,
    told_in_one_line,
)

if TYPE_CHECKING:
    from whyvae.data import Dataset
    from whyvae.evaluation import Evaluation
    from whyvae.models.build import ModelConfig
    from whyvae.training.run import Told, TrainConfig, Trained

SAMPLERS = ("prior", "gmm", "two-stage")


def add_train(commands: Commands, epilog: str) -> None:
    command = commands.add_parser(
        "train", help="train a healthy VAE on your data, and examine it", epilog=epilog, allow_abbrev=False,
        description="Trains a VAE whose loss, likelihood and schedule fit the data, and judges it by the rules of `run`.",
    )  # fmt: skip
    add_data(command, "go on with an interrupted run, with its data and settings")
    add = command.add_argument
    add("-q", "--quiet", action="store_true", help="print the verdict line only")
    add("--log-to", choices=("tensorboard", "wandb"), help="besides metrics.jsonl; the package must be installed")
    add("--ais", action="store_true", help="also estimate -log p(x) by annealed importance sampling (slow)")
    add(
        "--factors",
        metavar="FILE",
        help=".npy with a row of known factors for each row of DATA: scores disentanglement",
    )
    add_settings(command)
    command.set_defaults(call=train_command, fail=command.error)


def add_sample(commands: Commands, epilog: str) -> None:
    command = commands.add_parser(
        "sample", help="draw samples from a run of `whyvae train`", epilog=epilog, allow_abbrev=False
    )
    add = command.add_argument
    add("run", metavar="RUN", help="the run folder")
    add("-n", dest="count", metavar="N", type=int, default=64, help="how many (%(default)s)")
    add("--sampler", choices=SAMPLERS, default="prior", help="where latents are drawn: %(choices)s (%(default)s)")
    add("--noise", action="store_true", default=None, help="add the likelihood's noise (tables always have it)")
    add("--to", metavar="FILE", help="the .npy to write (default: RUN/samples-SAMPLER.npy)")
    add("--seed", metavar="N", type=int, default=0, help="(%(default)s)")
    command.set_defaults(call=sample_command)


def train_command(options: argparse.Namespace) -> int:
    if (options.data is None) == (options.resume is None):
        options.fail("give DATA, or --resume RUN")
    try:
        if options.resume:
            return _resume(options, Path(options.resume))
        return _train(options, reading_of(options), *settings_of(options))
    except told_in_one_line() as error:
        return complain(str(error))


def _train(options: argparse.Namespace, reading: dict[str, Any], model: ModelConfig, config: TrainConfig) -> int:
    from whyvae.models.build import resolved
    from whyvae.reference import new_folder, write_settings
    from whyvae.train import train

    data = loaded(options, reading)
    model = resolved(model, data)
    _factors(options, data)  # said before hours of training
    if rank() > 0:
        train(data, model, config)
        return HEALTHY
    folder = new_folder(Path(options.out), reading["source"])
    write_settings(folder, reading, data, model, config)
    return _run(options, data, folder, resume=False)


def _resume(options: argparse.Namespace, folder: Path) -> int:
    from whyvae.reference import read_settings

    try:
        reading, *_ = read_settings(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return complain(f"{folder} is no run folder of `whyvae train`: it has no readable config.json")
    return _run(options, loaded(options, reading), folder, resume=(folder / "checkpoint.safetensors").is_file())


def _run(options: argparse.Namespace, data: Dataset, folder: Path, *, resume: bool) -> int:
    from whyvae.evaluation import evaluate
    from whyvae.reference import read_settings, train_and_examine
    from whyvae.train import train
    from whyvae.training.loggers import logger

    _, model, config = read_settings(folder)
    if rank() > 0:  # one of several processes: the first one tells, writes and examines
        train(data, model, config, folder, resume=resume)
        return HEALTHY
    say(
        options,
        f"{model.family}, {model.latents} latent units, {model.likelihood} likelihood, {model.prior} prior -> {folder}",
    )
    also = logger(options.log_to, folder) if options.log_to else None
    with _progress(options, config.steps, also) as told:
        outcome = train_and_examine(
            data, model, config, folder, resume=resume, told=told, between=lambda *made: _trained(options, *made),
            judge=partial(evaluate, ais=options.ais, factors=_factors(options, data)),
        )  # fmt: skip
    _draw(outcome.trained, data, folder)
    report = outcome.report
    if options.json:
        text = report.to_json()
        print(text) if options.json == "-" else Path(options.json).write_text(text, encoding="utf-8")
    _print(options, report)
    if report.verdict == "inconclusive":
        return complain(f"inconclusive: {report.to_dict()['reason']}")
    return FINDINGS if report.verdict == "sick" else HEALTHY


def _factors(options: argparse.Namespace, data: Dataset) -> Any:
    """[len(data), k], or None.

    Raises:
        DataError, OSError: no factors of these rows.
    """
    if options.factors is None:
        return None
    import numpy as np

    from whyvae.data import DataError
    from whyvae.disentangle import checked

    try:
        return checked(np.load(options.factors, allow_pickle=False), len(data))
    except ValueError as error:
        raise DataError(f"{options.factors}: {error}") from error


def _trained(options: argparse.Namespace, trained: Trained, evaluation: Evaluation) -> None:
    say(options, f"{trained.steps} steps in {trained.seconds:.0f} s\n{evaluation.describe()}\nexamining it")


def _draw(trained: Trained, data: Dataset, folder: Path) -> None:
    """The pictures of the run, where matplotlib is installed; they cost no verdict."""
    import importlib.util

    from whyvae.gallery import of_trained
    from whyvae.plot import hang
    from whyvae.probe import debugging

    if importlib.util.find_spec("matplotlib") is None:
        return
    try:
        hang(of_trained(trained, data, folder), folder)
    except Exception:
        if debugging():
            raise


def _print(options: argparse.Namespace, report: Any) -> None:
    from rich.console import Console

    from whyvae.report.terminal import verdict_line

    if options.quiet:
        print(verdict_line(report.to_dict()), file=sys.stderr if options.json == "-" else None)
    else:
        Console(stderr=options.json == "-").print(report)


@contextlib.contextmanager
def _progress(options: argparse.Namespace, steps: int, also: Told | None) -> Iterator[Told]:
    """A bar with the numbers that matter, on a terminal; elsewhere only what `also` does with each line."""
    also = also or (lambda _: None)
    if options.quiet or not sys.stderr.isatty():
        yield also
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown: dict[str, float] = {}
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=steps)

        def told(line: dict[str, Any]) -> None:
            also(line)
            shown.update(line)
            names = {"held_out": "held-out -ELBO", "rate": "KL", "distortion": "-log p(x|z)", "s": "s"}
            words = "  ".join(f"{word} {shown[name]:.4g}" for name, word in names.items() if name in shown)
            progress.update(task, completed=line["step"], description=words)

        yield told


def sample_command(options: argparse.Namespace) -> int:
    from whyvae.data import DataError, load
    from whyvae.reference import read_settings, write_samples
    from whyvae.sampling import draws, generated
    from whyvae.training.checkpoint import BrokenCheckpoint
    from whyvae.training.run import load_model

    folder = Path(options.run)
    try:
        trained = load_model(folder)
        data = load(**read_settings(folder)[0]) if options.sampler != "prior" else None
        z = draws(trained, options.count, options.sampler, data, options.seed)
        rows = generated(trained, z, noise=options.noise, seed=options.seed)
        to = Path(options.to) if options.to else folder / f"samples-{options.sampler}.npy"
        written = write_samples(rows, trained.codec, to)
    except BrokenCheckpoint:
        return complain(
            f"{folder} holds no finished run of `whyvae train`"
            + (" (--resume goes on with it)" if folder.is_dir() else "")
        )
    except (DataError, OSError) as error:
        return complain(str(error))
    print("\n".join(map(str, written)))
    return HEALTHY
