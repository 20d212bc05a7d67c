import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from whyvae.data import Dataset
from whyvae.data.raw import Raw
from whyvae.models.build import ModelConfig
from whyvae.train import train
from whyvae.training.run import TrainConfig, load_model


def rows(n=400, seed=0, spread=(3.0, 2.0, 0.5), noise=0.4, features=10):
    """Gaussian data of three directions and equal noise. [n, features]"""
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.normal(size=(features, len(spread))))[0]
    return random.normal(size=(n, len(spread))) * spread @ directions.T + noise * random.normal(size=(n, features)) + 5


def dataset(values=None, kind="vector"):
    return Dataset.of(Raw(rows() if values is None else values, kind=kind), "rows")


QUICK = TrainConfig(steps=60, batch=32, log_every=10, checks=6, checkpoint_seconds=0.0)
SMALL = ModelConfig(family="mlp", latents=2, widths=(16,))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_loss_falls_and_the_folder_holds_the_model(tmp_path):
    trained = train(dataset(), SMALL, QUICK, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["held_out"] for line in lines if "held_out" in line]
    assert held_out[-1] < held_out[0]
    assert trained.held_out_nats == min(held_out)
    again = load_model(tmp_path)
    assert same(again.model.state_dict(), trained.model.state_dict())
    assert (again.codec, again.model_config, again.steps) == (trained.codec, trained.model_config, 60)


def test_training_is_repeatable_and_leaves_the_random_stream_alone():
    before = torch.get_rng_state()
    one, other = train(dataset(), SMALL, QUICK), train(dataset(), SMALL, QUICK)
    assert same(one.model.state_dict(), other.model.state_dict())
    assert torch.equal(torch.get_rng_state(), before)


class Killed(Exception):
    pass


def test_an_interrupted_run_resumes_bit_for_bit(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    quick = replace(QUICK, log_every=7, clip=1.01)  # the checkpoint of step 40 lies between two lines of the log
    train(dataset(), SMALL, quick, whole)

    def stop(line):
        if line["step"] == 49:  # behind the checkpoint of step 40
            raise Killed

    with pytest.raises(Killed):
        train(dataset(), SMALL, quick, part, told=stop)
    train(dataset(), SMALL, quick, part, resume=True)
    assert same(load_file(whole / "model.safetensors"), load_file(part / "model.safetensors"))
    logs = [(folder / "metrics.jsonl").read_text() for folder in (whole, part)]
    assert logs[0] == logs[1]


def test_a_run_that_begins_again_keeps_no_lines_of_the_first(tmp_path):
    for _ in range(2):
        train(dataset(), SMALL, QUICK, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


@pytest.mark.slow
def test_killed_from_outside_and_resumed_bit_for_bit(tmp_path):
    """SIGKILL at a moment nobody chose."""
    command = [sys.executable, "-m", "whyvae", "train", "--quiet"]
    options = ["sklearn:digits", "--steps", "1500", "--batch", "32", "--widths", "32", "--latents", "4", "--seed", "3"]
    options += ["--checkpoint-seconds", "0.1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out, *arguments):
        return subprocess.Popen([*command, "--out", str(out), *arguments], cwd=tmp_path, env=environment)

    assert start(tmp_path / "whole", *options).wait(240) in {0, 1, 2}
    killed = start(tmp_path / "part", *options)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "part").glob("*/checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.37)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    (folder,) = (tmp_path / "part").iterdir()
    assert not (folder / "model.safetensors").exists(), "it was too late to kill"
    assert start(tmp_path / "part", "--resume", str(folder)).wait(240) in {0, 1, 2}
    (whole,) = (tmp_path / "whole").iterdir()
    assert same(load_file(whole / "model.safetensors"), load_file(folder / "model.safetensors"))


def test_the_linear_vae_reaches_probabilistic_pca():
    """Tipping & Bishop 1999: noise variance = mean of the discarded eigenvalues, and the likelihood that goes with it."""
    values = rows(2000)
    config = TrainConfig(steps=3000, batch=256, lr=1e-2, held_out=0.02, kl_warmup=0.0, patience=1.0, checks=10)
    trained = train(dataset(values), ModelConfig(family="linear", latents=3), config)
    seen = trained.codec.encode(
        dataset(values).take(np.setdiff1d(np.arange(2000), trained.held_out(dataset(values))))
    ).double()
    eigenvalues = torch.linalg.eigvalsh(torch.cov(seen.T, correction=0)).flip(0)
    best = float(eigenvalues[3:].mean())
    assert float(trained.model.likelihood.variance) == pytest.approx(best, rel=0.03)
    d = seen.shape[1]
    optimum = 0.5 * (d * math.log(2 * math.pi) + float(eigenvalues[:3].log().sum()) + (d - 3) * math.log(best) + d)
    torch.manual_seed(0)
    with torch.no_grad():
        nll, kl, _ = trained.model(seen.float().repeat(8, 1))
    reached = float((nll + kl).mean())  # an ELBO is below the likelihood, except for chance in 8 draws
    assert optimum - 0.02 < reached < optimum + 0.05


def test_the_calibrated_gaussian_ends_at_the_mean_squared_error():
    trained = train(dataset(), SMALL, QUICK)
    x = trained.codec.encode(dataset().take(np.setdiff1d(np.arange(400), trained.held_out(dataset()))))
    torch.manual_seed(1)
    with torch.no_grad():
        error = torch.stack([(trained.model(x)[2] - x).square().mean() for _ in range(20)])
    assert float(trained.model.likelihood.variance) == pytest.approx(float(error.mean()), rel=0.05)


def test_streamed_training_is_training(tmp_path):
    np.save(tmp_path / "x.npy", rows())
    from whyvae.data import load

    held, streamed = (load(str(tmp_path / "x.npy"), kind="vector", stream=s) for s in (False, True))
    one, other = train(held, SMALL, QUICK), train(streamed, SMALL, QUICK)
    assert one.held_out_nats == pytest.approx(other.held_out_nats, abs=1.5)


@pytest.mark.slow
def test_two_processes_reach_what_one_reaches(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        "import json, sys, os\nfrom whyvae.data import load\nfrom whyvae.train import train\n"
        "from whyvae.training.run import TrainConfig\nfrom whyvae.models.build import ModelConfig\n"
        "seed = int(sys.argv[1])\n"
        "trained = train(load('sklearn:digits'), ModelConfig(latents=4, widths=(64,)), TrainConfig(steps=400, batch=64, seed=seed))\n"
        "if os.environ.get('RANK', '0') == '0': print(json.dumps(trained.held_out_nats))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*start, seed):
        done = subprocess.run(
            [sys.executable, *start, str(script), str(seed)],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    alone = [run(seed=seed) for seed in (0, 1, 2)]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    together = [run(*torchrun, seed=seed) for seed in (0, 1, 2)]
    noise = np.std(alone, ddof=1) + np.std(together, ddof=1)
    assert abs(np.mean(alone) - np.mean(together)) < 2 * noise + 0.1, (alone, together)


@pytest.mark.slow
def test_memory_does_not_grow_with_streamed_data(tmp_path):
    """A hundred times the rows, 205 MB instead of 2, in the same memory."""
    script = tmp_path / "stream.py"
    script.write_text(
        "import re, sys\nfrom pathlib import Path\nfrom whyvae.data import load\nfrom whyvae.train import train\n"
        "from whyvae.training.run import TrainConfig\nfrom whyvae.models.build import ModelConfig\n"
        "data = load(sys.argv[1], stream=True, kind='vector')\n"
        "train(data, ModelConfig(latents=4, widths=(32,)), TrainConfig(steps=300))\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
    )

    def megabytes(rows):
        path = tmp_path / f"{rows}.npy"
        made = np.lib.format.open_memmap(path, "w+", np.float32, (rows, 64))
        for start in range(0, rows, 8000):
            made[start : start + 8000] = np.random.default_rng(start).normal(size=(8000, 64))
        made.flush()
        done = subprocess.run([sys.executable, str(script), str(path)], capture_output=True, text=True, check=True)
        return float(done.stdout) / 1024

    small, large = megabytes(8000), megabytes(800000)
    assert large - small < 60, (small, large)  # of which 20 are positions of rows, 8 bytes each
