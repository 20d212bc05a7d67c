"""Lines of the training log for TensorBoard or Weights & Biases, where those are installed."""

from __future__ import annotations

from pathlib import Path

from whyvae.data.raw import needed
from whyvae.training.run import JSON, Told

LOGGERS = ("tensorboard", "wandb")


def logger(name: str, folder: Path) -> Told:
    """
    Raises:
        DataError: the package is not installed.
    """
    return _tensorboard(folder) if name == "tensorboard" else _wandb(folder)


def _tensorboard(folder: Path) -> Told:
    module = needed("torch.utils.tensorboard", "tensorboard", "--log-to tensorboard")
    writer = module.SummaryWriter(str(folder))

    def told(line: JSON) -> None:
        for key, value in line.items():
            if key != "step":
                writer.add_scalar(key, value, line["step"])
        writer.flush()

    return told


def _wandb(folder: Path) -> Told:
    module = needed("wandb", "wandb", "--log-to wandb")
    run = module.init(project="whyvae", name=folder.name, dir=str(folder))

    def told(line: JSON) -> None:
        run.log({key: value for key, value in line.items() if key != "step"}, step=line["step"])

    return told
