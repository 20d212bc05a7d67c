"""Parts narrower than twice the latents: what a trial gains within its few steps, against what training anew and wide gains.

    python -m bench.narrow [--families factors,waves,...] [--steps 2500] [--out FILE]

On each family of the bank and with two activations, small VAEs whose encoder or decoder has 2 units up to twice the latents and
more. Printed: each with its width, the trial's gain, what the same steps with nothing enlarged gain, and the true lack against a
wide one trained for as many steps, all as shares of what the code carries; in the end the smallest true lack among the narrow
parts that gained more than CAP01 and CAP02 ask of them, family by family.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from bench.bank.families import load
from bench.bank.healthy import _FAMILIES
from torch import Tensor, nn

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.wider import WiderBlocks
from whyvae.rules.capacity.gains import MATERIAL, TIGHT
from whyvae.testing import Model, Patient, from_prior, kl, reparametrise
from whyvae.watch.subject import Subject

ROWS, DRAWS = 2400, 8
ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.SiLU)


def trained(
    rows: Tensor, latents: int, widths: tuple[int, int], variance: float, seed: int, steps: int
) -> tuple[Subject, float]:
    """(what was seen, held-out negative ELBO in nats) of one with these widths of encoder and decoder."""
    kept: list[Model] = []

    def loss(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return ((output - x).square().sum() / (2 * variance) + kl(mu, logvar)) / x.shape[0]

    def generate(model: Model) -> None:
        from_prior(model)
        kept.append(model)

    subject = Patient(
        data=rows, latents=latents, hidden=widths[0], decoder_hidden=widths[1], loss=loss, steps=steps, batch=128,
        seed=seed, activation=ACTIVATIONS[seed], generate=generate,
    ).train()  # fmt: skip
    model, held = kept[-1], rows[: len(rows) // 4]
    with torch.no_grad():
        hidden = model.encoder(held)
        mu, logvar = model.mu(hidden), model.logvar(hidden)
        drawn = [float(loss(model.decoder(reparametrise(mu, logvar)), held, mu, logvar)) for _ in range(DRAWS)]
    return subject, sum(drawn) / DRAWS


def family(name: str, steps: int) -> list[dict[str, Any]]:
    _, latents, wide, _, variances = _FAMILIES[name]
    rows = torch.tensor(load(name, 3)).float().flatten(1)[:ROWS]
    variance = variances.get("mlp", next(iter(variances.values())))
    found = []
    for seed in range(len(ACTIVATIONS)):
        _, best = trained(rows, latents, (wide, wide), variance, seed, steps)
        for part in ("encoder", "decoder"):
            for width in sorted({2, 4, latents // 2 + 1, latents, 2 * latents - 1, 2 * latents + 2}):
                subject, loss = trained(
                    rows, latents, (width, wide) if part == "encoder" else (wide, width), variance, seed, steps
                )
                try:
                    wider = Bench(subject).get(WiderBlocks)
                except CannotMeasure as cannot:
                    print(f"{name} {part} {width}: {cannot.reason}", flush=True)
                    continue
                row = {
                    "family": name, "activation": ACTIVATIONS[seed].__name__, "part": part, "width": width,
                    "narrow": width < 2 * latents, "nats": round(getattr(wider.calibrated, part), 3),
                    "gain": round(getattr(wider.own, part) / wider.rate, 4),
                    "unchanged": round(wider.own.continued / wider.rate, 4), "lack": round((loss - best) / wider.rate, 4),
                }  # fmt: skip
                print(json.dumps(row), flush=True)
                found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="factors,waves,tabular,sprites,digits,mixture,spectra,glyphs")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for name in options.families.split(",") for row in family(name, options.steps)]
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))
    for name in options.families.split(","):
        told = [
            r for r in found
            if r["family"] == name and r["narrow"] and r["gain"] > TIGHT.value and r["nats"] > MATERIAL.value
        ]  # fmt: skip
        least = min((r["lack"] for r in told), default=float("nan"))
        print(
            f"{name:10s} {len(told):3d} narrow parts are told; the smallest true lack among them {least:.2f} of the code"
        )


if __name__ == "__main__":
    main()
