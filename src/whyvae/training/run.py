"""A run: its settings, what it is at a step, what came of it, and the folder that holds all three."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from whyvae.data import Codec, Dataset
from whyvae.models.build import ModelConfig, build
from whyvae.models.vae import VAE
from whyvae.training import checkpoint
from whyvae.training.feed import Split
from whyvae.training.group import Group
from whyvae.training.schedules import Schedule

JSON = dict[str, Any]
Told = Callable[[JSON], None]  # called with each line of the log
FEWEST_STEPS, EPOCHS = 6000, 20  # the default length: enough steps for little data, enough passes over much


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Warm-ups and patience are shares of `steps`."""

    steps: int = 0  # 0: by the number of examples
    batch: int = 128
    lr: float = 2e-3
    schedule: Schedule = "cosine"
    warmup: float = 0.02
    weight_decay: float = 0.01
    kl_weight: float = 1.0
    kl_warmup: float = 0.05
    clip: float = 5.0  # times the usual norm of the gradient; 0: never
    ema: float = 0.999  # 0: none
    patience: float = 0.25  # without a better held-out ELBO
    held_out: float = 0.1  # share of the examples
    checks: int = 50  # held-out evaluations in a run
    log_every: int = 50
    checkpoint_seconds: float = 15.0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    amp: bool = False
    compile: bool = False
    seed: int = 0


class TrainingFailed(RuntimeError):
    """One line for the user."""


@dataclass
class State:
    """All that a run is at a step; `best` is a copy of the model's values."""

    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_nats: float = math.inf
    best_step: int = 0
    reductions: int = 0  # of the learning rate, at plateaus
    reduced_at: int = 0
    followed: int = 0  # the step up to which the averaged weights follow
    limit: float = math.inf  # of the gradient's norm
    norms: list[Tensor] = field(default_factory=list)  # of the gradient, since the last line of the log

    def facts(self) -> JSON:
        plain = asdict(replace(self, best={}, norms=[]))
        return {**plain, "norms": [float(norm) for norm in self.norms]}


@dataclass(frozen=True)
class Trained:
    """`model` holds the weights of the best held-out ELBO and stands in evaluation mode."""

    model: VAE
    codec: Codec
    model_config: ModelConfig
    config: TrainConfig
    held_out_nats: float  # negative ELBO an example at KL weight 1
    steps: int
    seconds: float
    folder: Path | None = None

    def held_out(self, data: Dataset) -> Any:
        """Positions of the rows of `data` that were not trained on."""
        return Split.of(data, self.config.held_out, self.config.seed).held_out


def length(config: TrainConfig, n: int) -> TrainConfig:
    """With the default number of steps, where it was left open."""
    return replace(config, steps=config.steps or max(FEWEST_STEPS, EPOCHS * n // config.batch))


def save(path: Path, model: VAE, ema: list[Tensor], optimizer: torch.optim.Optimizer, state: State) -> None:
    """Everything a resumed run needs to go on bit for bit (on the CPU, alone)."""
    names = [name for name, _ in model.named_parameters()]
    held = optimizer.state_dict()["state"]
    order = _order(model, optimizer)
    moments = {f"{order[i]}.{key}": value for i, entry in held.items() for key, value in entry.items()}
    tensors = {
        **checkpoint.under("model", model.state_dict()),
        **checkpoint.under("ema", dict(zip(names, ema, strict=True))),
        **checkpoint.under("optimizer", moments),
        **checkpoint.under("best", state.best),
        "random": torch.get_rng_state(),
    }
    checkpoint.write(path, tensors, state.facts())


def restore(
    path: Path, model: VAE, ema: list[Tensor], optimizer: torch.optim.Optimizer, state: State, group: Group
) -> None:
    """
    Raises:
        BrokenCheckpoint: no checkpoint of this model.
    """
    tensors, facts = checkpoint.read(path)
    try:
        model.load_state_dict(checkpoint.of("model", tensors))
    except RuntimeError as error:
        raise checkpoint.BrokenCheckpoint(f"{path} is of another model: {error}") from error
    averages = checkpoint.of("ema", tensors)
    for value, (name, _) in zip(ema, model.named_parameters(), strict=True):
        value.copy_(averages[name])
    held, moments = optimizer.state_dict(), checkpoint.of("optimizer", tensors)
    held["state"] = {
        i: {key: moments[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        for i, name in enumerate(_order(model, optimizer))
    }
    optimizer.load_state_dict(held)
    for name, fact in facts.items():
        setattr(state, name, fact)
    device = next(model.parameters()).device
    state.norms = [torch.tensor(norm, device=device) for norm in facts["norms"]]
    state.best = {name: t.to(device) for name, t in checkpoint.of("best", tensors).items()}
    if group.size == 1:
        torch.set_rng_state(tensors["random"])
    else:  # one process's stream is no other's
        torch.manual_seed(torch.initial_seed() + 1009 * state.step)


def _order(model: VAE, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters as the optimizer numbers them."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for entry in optimizer.param_groups for p in entry["params"]]


def save_model(trained: Trained, path: Path) -> None:
    facts = {
        "model": trained.model_config.to_dict(), "codec": trained.codec.to_dict(), "config": asdict(trained.config),
        "held_out_nats": trained.held_out_nats, "steps": trained.steps, "seconds": trained.seconds,
    }  # fmt: skip
    checkpoint.write(path, trained.model.state_dict(), facts)


def load_model(folder: Path) -> Trained:
    """The model of a run folder, as it ended.

    Raises:
        BrokenCheckpoint: no finished run is there.
    """
    tensors, facts = checkpoint.read(folder / "model.safetensors")
    config, codec = ModelConfig.from_dict(facts["model"]), Codec.from_dict(facts["codec"])
    model = build(config, codec, torch.zeros(max(2, config.components), *codec.model_shape))
    model.load_state_dict(tensors)
    model.eval()
    settings = TrainConfig(**facts["config"])
    return Trained(model, codec, config, settings, facts["held_out_nats"], facts["steps"], facts["seconds"], folder)


class Log:
    """`metrics.jsonl` of the run folder, and whoever listens."""

    def __init__(self, folder: Path | None, told: Told) -> None:
        self._path, self._told = None if folder is None else folder / "metrics.jsonl", told

    def write(self, line: JSON) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._told(line)

    def cut(self, step: int) -> None:
        """Forgets what lies behind the checkpoint: it will be done again."""
        if self._path is None or not self._path.is_file():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            with_step = _parsed(line)
            if with_step is not None and with_step["step"] <= step:
                kept.append(line)
        checkpoint.atomically(self._path, "".join(f"{line}\n" for line in kept).encode())


def _parsed(line: str) -> JSON | None:
    """None for a line that a kill cut short."""
    try:
        held: JSON = json.loads(line)
    except json.JSONDecodeError:
        return None
    return held
