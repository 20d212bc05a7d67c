"""Trains a VAE: one flat loop, from data to a run folder that can be killed at any moment and resumed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from whyvae.data import Codec, Dataset
from whyvae.models.build import RANGED, ModelConfig, build, resolved
from whyvae.models.vae import VAE
from whyvae.training.feed import Feed, Split
from whyvae.training.group import Group, joined
from whyvae.training.optimiser import clipped, optimizer_of, products
from whyvae.training.run import (
    JSON,
    Log,
    State,
    Told,
    TrainConfig,
    Trained,
    TrainingFailed,
    length,
    restore,
    save,
    save_model,
)  # fmt: skip
from whyvae.training.schedules import kl_weight, rate

EXAMPLES = 1024  # that start variances and pseudo-examples
FOLLOWED = 8  # steps between updates of the averaged weights, each a pass over all of them
CALIBRATED_ON = 8192  # training rows that fix the noise variance at the end


def train(
    data: Dataset,
    model_config: ModelConfig | None = None,
    config: TrainConfig | None = None,
    folder: Path | None = None,
    *,
    resume: bool = False,
    told: Told = lambda _: None,
) -> Trained:
    """
    Raises:
        Unfit: a choice that does not fit the data.
        TrainingFailed: the loss is no number.
        BrokenCheckpoint: `resume` without a usable checkpoint in `folder`.
    """
    chosen, config = resolved(model_config or ModelConfig(), data), length(config or TrainConfig(), len(data))
    with joined() as group, _own_randomness(), products(config):
        return _train(data, chosen, config, folder, group, resume=resume, told=told)


def _train(  # noqa: PLR0915 - the loop is read from top to bottom
    data: Dataset, chosen: ModelConfig, config: TrainConfig, folder: Path | None, group: Group, *, resume: bool, told: Told
) -> Trained:  # fmt: skip
    began, device = time.perf_counter(), _device(config, group)
    torch.manual_seed(config.seed)
    codec = Codec.of(data, to_range=chosen.likelihood in RANGED)
    split = Split.of(data, config.held_out, config.seed)
    feed = Feed(data, codec, split.train, config.batch, config.seed, device, (group.rank, group.size))
    held_out = codec.encode(data.take(split.held_out[group.rank :: group.size])).to(device)
    # convolutions are some 7 % faster so on a CPU, more on a GPU
    layout = torch.channels_last if held_out.dim() == 4 else torch.contiguous_format
    model = build(chosen, codec, feed.some(EXAMPLES).cpu()).to(device)
    model.to(memory_format=layout)  # type: ignore[call-overload] # torch does not declare it
    net = group.wrap(torch.compile(model) if config.compile else model, device)  # type: ignore[arg-type]
    optimizer = optimizer_of(model, config)
    parameters = list(model.parameters())
    ema = [p.detach().clone() for p in parameters]
    state = State()
    torch.manual_seed(config.seed + 1 + group.rank)
    log = Log(folder if group.first else None, told)
    if resume:
        assert folder is not None  # noqa: S101
        restore(folder / "checkpoint.safetensors", model, ema, optimizer, state, group)
    log.cut(state.step)  # killed before its first checkpoint, a run begins again
    saved, every = time.perf_counter(), max(1, config.steps // config.checks)
    cast = config.amp and (device.type != "cpu" or chosen.family == "conv")

    for step in range(state.step, config.steps):
        x = feed.at(step).contiguous(memory_format=layout)
        weight = kl_weight(config.kl_weight, step, config.steps, config.kl_warmup)
        for entry in optimizer.param_groups:
            entry["lr"] = config.lr * rate(config.schedule, step, config.steps, config.warmup, state.reductions)
        with torch.autocast(device.type, torch.bfloat16, enabled=cast):
            nll, kl, output = net(x)
            loss = (nll + weight * kl).mean()
        optimizer.zero_grad()
        loss.backward()
        state.norms.append(clipped(parameters, state.limit))
        model.likelihood.calibrate(output, x, mean=group.mean)
        optimizer.step()
        state.step = step + 1
        if state.step % FOLLOWED == 0 or state.step % every == 0 or state.step == config.steps:
            _follow(ema, model, config.ema, state)

        if state.step % config.log_every == 0 or state.step == config.steps:
            norm = float(torch.stack(state.norms).mean())
            state.norms.clear()
            if not math.isfinite(norm):
                raise TrainingFailed(
                    f"the loss or its gradient is no number at step {state.step}; a smaller --lr may help"
                )
            state.limit = config.clip * norm if config.clip else math.inf
            log.write(_line(state.step, nll, kl, weight, norm, optimizer, model))
        if state.step % every == 0 or state.step == config.steps:
            with averaged(model, ema):
                nats, parts = evaluate(model, held_out, group)
                if nats < state.best_nats:
                    state.best_nats, state.best_step = nats, state.step
                    state.best = {name: t.detach().clone() for name, t in model.state_dict().items()}
            log.write({"step": state.step, "held_out": nats, **parts})
            _plateau(state, config)
            if state.step - state.best_step > config.patience * config.steps:
                break
            if folder and group.first and time.perf_counter() - saved > config.checkpoint_seconds:
                save(folder / "checkpoint.safetensors", model, ema, optimizer, state)
                saved = time.perf_counter()

    return _finished(model, state, feed, codec, chosen, config, folder, group, time.perf_counter() - began)


def _finished(
    model: VAE, state: State, feed: Feed, codec: Codec, chosen: ModelConfig, config: TrainConfig, folder: Path | None,
    group: Group, seconds: float,
) -> Trained:  # fmt: skip
    """The best weights, with the noise variance that fits them exactly."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(state.best.get(name, value))
    model.eval()
    recalibrate(model, feed.some(CALIBRATED_ON))
    model.cpu()  # what is done with it from here on is light
    trained = Trained(model, codec, chosen, config, state.best_nats, state.step, seconds, folder)
    if folder is not None and group.first:
        save_model(trained, folder / "model.safetensors")
    return trained


@torch.no_grad()
def recalibrate(model: VAE, rows: Tensor) -> None:
    """The noise variance that is best for these rows [n, *model_shape]: their mean squared residual at draws of z."""
    seen = 0
    for _ in range(max(1, CALIBRATED_ON // len(rows))):  # few rows with several draws each
        for x in rows.split(512):
            seen += len(x)
            model.likelihood.calibrate(model(x)[2], x, momentum=len(x) / seen)


@torch.no_grad()
def evaluate(model: VAE, rows: Tensor, group: Group) -> tuple[float, JSON]:
    """Negative ELBO an example at KL weight 1, in nats, and its two parts. The same noise every time: less to wait for."""
    model.eval()
    total = torch.zeros(3, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(29 + group.rank)
        for x in rows.split(512):
            nll, kl, _ = model(x)
            total += torch.stack([nll.sum(), kl.sum(), torch.tensor(float(len(x)), device=nll.device)]).cpu().double()
    model.train()
    total = group.mean(total.to(rows.device).float() if rows.device.type == "mps" else total.to(rows.device))
    distortion, kl_nats = (float(t / total[2]) for t in total[:2])
    return distortion + kl_nats, {"distortion": distortion, "rate": kl_nats}


@torch.no_grad()
def _follow(ema: list[Tensor], model: VAE, decay: float, state: State) -> None:
    """An average over the last 1 / (1 - decay) steps, over fewer at the start; the steps since the last call count as this one."""
    decay = min(decay, state.step / (9 + state.step)) ** (state.step - state.followed) if decay else 0.0
    torch._foreach_lerp_(ema, [p.detach() for p in model.parameters()], 1 - decay)
    state.followed = state.step


@contextlib.contextmanager
def averaged(model: VAE, ema: list[Tensor]) -> Iterator[None]:
    """The averaged weights in the model, for as long as this lasts."""
    parameters = list(model.parameters())
    kept = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, e in zip(parameters, ema, strict=True):
                p.copy_(e)
        yield
    finally:
        with torch.no_grad():
            for p, k in zip(parameters, kept, strict=True):
                p.copy_(k)


def _plateau(state: State, config: TrainConfig) -> None:
    """With the plateau schedule: a lower rate after a twelfth of the steps without a better ELBO."""
    since = max(state.best_step, state.reduced_at)
    if config.schedule == "plateau" and state.step - since > config.steps / 12:
        state.reductions, state.reduced_at = state.reductions + 1, state.step


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """The caller's random streams stay where they are."""
    with torch.random.fork_rng():
        yield


def _device(config: TrainConfig, group: Group) -> torch.device:
    if config.device != "auto":
        name: str = config.device
    else:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(name, group.local) if name == "cuda" else torch.device(name)


def _line(
    step: int, nll: Tensor, kl: Tensor, weight: float, norm: float, optimizer: torch.optim.Optimizer, model: VAE
) -> JSON:
    variance = getattr(model.likelihood, "variance", None)
    return {
        "step": step, "nll": float(nll.detach().mean()), "kl": float(kl.detach().mean()), "kl_weight": weight,
        "lr": optimizer.param_groups[0]["lr"], "grad_norm": norm,
        **({} if variance is None else {"s": float(variance.mean())}),
    }  # fmt: skip
