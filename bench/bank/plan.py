"""Who is in the bank: a stratified order, so that any prefix is a fair sample of the whole."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.bank.families import available
from bench.bank.faults import FAULTS, Fault
from bench.bank.healthy import TWISTS, bases
from bench.bank.program import Base, Program, build
from bench.bank.styles import LAYOUTS, NAMES, Style

EXAM_FAMILIES = ("glyphs", "spectra")  # never used for any limit
EXAM_SEED = 1000  # neither are seeds from here on
ROUNDS = 9
HEALTHY_SHARE = 0.28
PAIRS, TWINS, SCRIPTS = 4, 6, 0.25  # a round, a round, share
SELDOM = {"mnist": 0.2}  # costs five times what the others cost
# Two faults of different blocks; either may be named first, the order of repair decides.
COMBINATIONS = (
    ("byte_pixels", "heavy_kl"), ("dollar_column", "light_kl"), ("wrong_noise", "light_kl"), ("latent_cut", "heavy_kl"),
    ("squashed", "heavy_kl"), ("squashed_image", "no_kl"), ("not_optimised", "light_kl"), ("narrow_encoder", "light_kl"),
    ("few_latents", "narrow_encoder"), ("mean_reconstruction", "squashed_mean"), ("no_noise", "wrong_draws"),
    ("kl_wrong_mean", "few_rows"), ("narrow_decoder", "wrong_draws"), ("few_steps", "squashed_variance"),
    ("sigmoid_twice", "heavy_kl"), ("rarely_cleared", "other_row"), ("beyond_bernoulli", "heavy_kl"),
    ("slow_schedule", "shown_in_other_range"), ("dropout_left_on", "heavy_kl"), ("stale_statistics", "light_kl"),
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One patient. `form`: "process" (examined where it was trained) or "script" (by the command `whyvae run`)."""

    id: str
    base: Base
    faults: tuple[tuple[str, str], ...]  # (name, severity)
    twist: str
    style: Style
    seed: int
    form: str
    twin_of: str = ""

    @property
    def codes(self) -> list[str]:
        return [FAULTS[name].code for name, _ in self.faults]

    @property
    def accept(self) -> list[str]:
        return [code for name, _ in self.faults for code in FAULTS[name].accept]

    @property
    def exam(self) -> bool:
        return self.base.family in EXAM_FAMILIES or self.seed >= EXAM_SEED

    def program(self) -> Program:
        program = build(self.base)
        TWISTS[self.twist][0](program)
        for name, severity in self.faults:
            FAULTS[name].edit(program, FAULTS[name].levels[severity])
        return program

    def to_dict(self) -> dict[str, Any]:
        base = self.base
        return {
            "id": self.id, "family": base.family, "architecture": base.architecture, "likelihood": base.likelihood,
            "faults": [list(f) for f in self.faults], "codes": self.codes, "accept": self.accept, "twist": self.twist,
            "style": asdict(self.style), "seed": self.seed, "form": self.form, "exam": self.exam, "twin_of": self.twin_of,
        }  # fmt: skip


def plan(rounds: int = ROUNDS, seed: int = 0) -> list[Spec]:
    """Each round: every code once, pairs, healthy ones, and twins (another seed) of a few; shuffled."""
    rng = random.Random(seed)  # noqa: S311 - a plan, not a secret
    known = [b for b in bases() if b.family in available()]
    found: list[Spec] = []
    for number in range(rounds):
        chosen = [_ill(code, number, rng, known) for code in sorted({f.code for f in FAULTS.values()})]
        chosen += [_pair(rng, known) for _ in range(PAIRS)]
        healthy = round(len(chosen) * HEALTHY_SHARE / (1 - HEALTHY_SHARE))
        chosen += [_spec(rng, _fitting(rng, known), (), rng.choice(sorted(TWISTS))) for _ in range(healthy)]
        rng.shuffle(chosen)
        named = [replace(spec, id=f"{number:02d}-{k:03d}") for k, spec in enumerate(chosen)]
        twins = {spec.id for spec in rng.sample(named, TWINS)}
        for spec in named:
            found.append(spec)
            if spec.id in twins:
                found.append(replace(spec, id=spec.id + "-twin", seed=spec.seed + 500, twin_of=spec.id))
    return found


def _ill(code: str, number: int, rng: random.Random, known: list[Base]) -> Spec:
    """The faults of a code and their severities take turns over the rounds."""
    faults = sorted((f for f in FAULTS.values() if f.code == code), key=lambda f: f.name)
    fault = faults[number % len(faults)]
    levels = list(fault.levels)
    level = levels[(number // len(faults) + len(fault.name)) % len(levels)]
    return _spec(rng, _fitting(rng, known, fault), ((fault.name, level),))


def _pair(rng: random.Random, known: list[Base]) -> Spec:
    while True:
        first, second = (FAULTS[name] for name in rng.choice(COMBINATIONS))
        fitting = [b for b in known if first.applies(b) and second.applies(b)]
        if fitting:
            levels = [
                rng.choice([level for level in f.levels if level != "mild" or len(f.levels) == 1])
                for f in (first, second)
            ]
            return _spec(rng, _balanced(rng, fitting), ((first.name, levels[0]), (second.name, levels[1])))


def _fitting(rng: random.Random, known: list[Base], fault: Fault | None = None) -> Base:
    return _balanced(rng, [b for b in known if fault is None or fault.applies(b)])


def _balanced(rng: random.Random, fitting: list[Base]) -> Base:
    """A family first, so that families with many variants do not fill the bank."""
    families = sorted({b.family for b in fitting})
    family = rng.choices(families, [SELDOM.get(f, 1.0) for f in families])[0]
    return rng.choice([b for b in fitting if b.family == family])


def _spec(rng: random.Random, base: Base, faults: tuple[tuple[str, str], ...], twist: str = "plain") -> Spec:
    while not TWISTS[twist][1](base):
        twist = rng.choice(sorted(TWISTS))
    style = Style(rng.choice(LAYOUTS), rng.randrange(len(NAMES)), *(rng.random() < p for p in (0.35, 0.6, 0.6, 0.25)))
    seed = rng.randrange(400) + (EXAM_SEED if rng.random() < 0.2 else 0)
    return Spec("", base, faults, twist, style, seed, "script" if rng.random() < SCRIPTS else "process")
