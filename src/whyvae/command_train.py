"""`whyvae train` and `whyvae sample`: their options, and what stands between those and the exit status."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whyvae.command_run import FINDINGS, HEALTHY, complain

if TYPE_CHECKING:
    from whyvae.data import Dataset
    from whyvae.evaluation import Evaluation
    from whyvae.models.build import ModelConfig
    from whyvae.training.run import Told, TrainConfig, Trained

DATA = "folder of images, .npy .npz .pt .safetensors .csv .parquet, IDX, sklearn:digits, torchvision:NAME, hf:NAME, module:callable"
FAMILIES = ("auto", "mlp", "linear", "conv", "sequence", "recurrent")
LIKELIHOODS = ("auto", "gaussian", "gaussian-per-feature", "bernoulli", "categorical", "logistic-mixture", "mixed")
KINDS = ("image", "sequence", "table", "vector")
SCHEDULES = ("cosine", "step", "plateau", "one-cycle", "none")
SAMPLERS = ("prior", "gmm", "two-stage")
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
Commands = Any  # argparse's own name for it is private


def add_train(commands: Commands, epilog: str) -> None:
    command = commands.add_parser(
        "train", help="train a healthy VAE on your data, and examine it", epilog=epilog, allow_abbrev=False,
        description="Trains a VAE whose loss, likelihood and schedule fit the data, and judges it by the rules of `run`.",
    )  # fmt: skip
    add = command.add_argument
    add("data", metavar="DATA", nargs="?", help=DATA)
    add("--resume", metavar="RUN", help="go on with an interrupted run, with its data and settings")
    add("--out", metavar="DIR", default="whyvae-runs", help="where the run folder goes (%(default)s)")
    add("--json", metavar="PATH", help="write the record there; - for stdout")
    add("-q", "--quiet", action="store_true", help="print the verdict line only")
    _add_reading(command.add_argument_group("data"))
    _add_model(command.add_argument_group("model"))
    _add_training(command.add_argument_group("training"))
    command.set_defaults(call=train_command, fail=command.error)


def _add_reading(group: Any) -> None:
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


def _add_model(group: Any) -> None:
    add = group.add_argument
    add("--family", choices=FAMILIES, default="auto", help="(default: by the data)")
    add("--latents", metavar="N", type=int, default=0, help="latent units (default: by the data)")
    add("--widths", metavar="N,N", type=_numbers, default=(), help="hidden layers, or channels at each size")
    add("--blocks", metavar="N", type=int, default=0, help="residual blocks at each size of an image (%(default)s)")
    add("--likelihood", choices=LIKELIHOODS, default="auto", help="(default: by the data)")
    add("--prior", choices=("standard", "mixture", "vamp"), default="standard", help="(%(default)s)")


def _add_training(group: Any) -> None:
    add = group.add_argument
    add("--steps", metavar="N", type=int, default=0, help="(default: by the number of examples)")
    add("--batch", metavar="N", type=int, default=128, help="(%(default)s)")
    add("--lr", metavar="X", type=float, default=2e-3, help="(%(default)s)")
    add("--schedule", choices=SCHEDULES, default="cosine", help="of the learning rate (%(default)s)")
    add("--seed", metavar="N", type=int, default=0, help="(%(default)s)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="(%(default)s)")
    add("--amp", action="store_true", help="mixed precision (bfloat16)")
    add("--compile", action="store_true", help="torch.compile")
    add("--log-to", choices=("tensorboard", "wandb"), help="besides metrics.jsonl; the package must be installed")
    for name, default, what in FRACTIONS:
        option = "--" + name.replace("_", "-")
        add(option, metavar="X", type=float, default=default, help=f"{what} (%(default)s)")


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


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between") from None


def train_command(options: argparse.Namespace) -> int:
    if (options.data is None) == (options.resume is None):
        options.fail("give DATA, or --resume RUN")
    from whyvae.models.build import ModelConfig
    from whyvae.training.run import TrainConfig

    try:
        if options.resume:
            return _resume(options, Path(options.resume))
        reading = {k: getattr(options, k) for k in ("kind", "label", "size", "stream", "download")}
        reading["source"] = str(Path(options.data).resolve()) if Path(options.data).exists() else options.data
        model = ModelConfig(
            **{k: getattr(options, k) for k in ("family", "latents", "widths", "blocks", "likelihood", "prior")}
        )
        settings = (
            "steps",
            "batch",
            "lr",
            "schedule",
            "seed",
            "device",
            "amp",
            "compile",
            *(name for name, *_ in FRACTIONS),
        )
        return _train(options, reading, model, TrainConfig(**{k: getattr(options, k) for k in settings}))
    except _told_in_one_line() as error:
        return complain(str(error))


def _told_in_one_line() -> tuple[type[Exception], ...]:
    """Errors that say what the user can do."""
    from whyvae.data import DataError
    from whyvae.models.build import Unfit
    from whyvae.training.checkpoint import BrokenCheckpoint
    from whyvae.training.run import TrainingFailed

    return DataError, Unfit, BrokenCheckpoint, TrainingFailed, OSError


def _train(options: argparse.Namespace, reading: dict[str, Any], model: ModelConfig, config: TrainConfig) -> int:
    from whyvae.models.build import resolved
    from whyvae.reference import new_folder, write_settings
    from whyvae.train import train

    data = _loaded(options, reading)
    model = resolved(model, data)
    if _rank() > 0:
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
    return _run(options, _loaded(options, reading), folder, resume=(folder / "checkpoint.safetensors").is_file())


def _loaded(options: argparse.Namespace, reading: dict[str, Any]) -> Dataset:
    from whyvae.data import load

    data = load(**reading)
    _say(options, data.describe())
    for note in data.notes:
        _say(options, f"  {note}")
    return data


def _run(options: argparse.Namespace, data: Dataset, folder: Path, *, resume: bool) -> int:
    from whyvae.reference import read_settings, train_and_examine
    from whyvae.train import train
    from whyvae.training.loggers import logger

    _, model, config = read_settings(folder)
    if _rank() > 0:  # one of several processes: the first one tells, writes and examines
        train(data, model, config, folder, resume=resume)
        return HEALTHY
    _say(
        options,
        f"{model.family}, {model.latents} latent units, {model.likelihood} likelihood, {model.prior} prior -> {folder}",
    )
    also = logger(options.log_to, folder) if options.log_to else None
    with _progress(options, config.steps, also) as told:
        outcome = train_and_examine(
            data, model, config, folder, resume=resume, told=told, between=lambda *made: _trained(options, *made)
        )
    _draw(outcome.trained, data, folder)
    report = outcome.report
    if options.json:
        text = report.to_json()
        print(text) if options.json == "-" else Path(options.json).write_text(text, encoding="utf-8")
    _print(options, report)
    if report.verdict == "inconclusive":
        return complain(f"inconclusive: {report.to_dict()['reason']}")
    return FINDINGS if report.verdict == "sick" else HEALTHY


def _trained(options: argparse.Namespace, trained: Trained, evaluation: Evaluation) -> None:
    _say(options, f"{trained.steps} steps in {trained.seconds:.0f} s\n{evaluation.describe()}\nexamining it")


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


def _rank() -> int:
    """Which of the processes that `torchrun` started this is."""
    return int(os.environ.get("RANK", "0"))


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet and _rank() == 0:
        print(text, file=sys.stderr if options.json == "-" else None, flush=True)


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
