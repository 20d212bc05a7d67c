import random
from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest
import torch

from whyvae.probe import Bench, CannotMeasure, OnDemand, Probe


@dataclass(frozen=True)
class Length(Probe):
    value: int

    @classmethod
    def measure(cls, subject: list[str]) -> Self:
        subject.append("measured")
        return cls(len(subject))


@dataclass(frozen=True)
class Twice(Probe):
    value: int

    @classmethod
    def measure(cls, subject: list[str], length: Length) -> Self:
        return cls(2 * length.value)


@dataclass(frozen=True)
class Nothing(Probe):
    @classmethod
    def measure(cls, subject: list[str]) -> Self:
        subject.append("tried")
        raise CannotMeasure("needs a loss")


@dataclass(frozen=True)
class OnNothing(Probe):
    @classmethod
    def measure(cls, subject: list[str], nothing: Nothing) -> Self:
        raise AssertionError


@dataclass(frozen=True)
class Broken(Probe):
    @classmethod
    def measure(cls, subject: list[str]) -> Self:
        raise ZeroDivisionError("oops")


@dataclass(frozen=True)
class Hen(Probe):
    @classmethod
    def measure(cls, subject: list[str], egg: "Egg") -> Self:
        raise AssertionError


@dataclass(frozen=True)
class Egg(Probe):
    @classmethod
    def measure(cls, subject: list[str], hen: Hen) -> Self:
        raise AssertionError


@dataclass(frozen=True)
class Draws(Probe):
    values: tuple[float, ...]

    @classmethod
    def measure(cls, subject: list[str]) -> Self:
        return cls((random.random(), float(np.random.rand()), float(torch.rand(()))))  # noqa: NPY002


def check(length: Length, twice: Twice) -> tuple[int, int]:
    return length.value, twice.value


def may_ask(twice: OnDemand[Twice], nothing: OnDemand[Nothing]) -> tuple[Twice | None, Nothing | None]:
    return (twice(), nothing())


def asks_not(nothing: OnDemand[Nothing]) -> str:
    return "content"


def wants_a_number(length: int) -> int:
    return length


def test_injects_by_type_and_measures_once():
    subject = []
    bench = Bench(subject)
    assert bench.call(check) == (1, 2)
    assert bench.get(Length) is bench.get(Length)
    assert subject == ["measured"]
    assert set(bench.seconds) == {"Length", "Twice"}


def test_on_demand_is_measured_when_called_and_none_where_it_cannot_be():
    subject = []
    assert Bench(subject).call(asks_not) == "content"
    assert subject == []
    assert Bench(subject).call(may_ask) == (Twice(2), None)
    assert subject == ["measured", "tried"]


def test_remembers_what_cannot_be_measured():
    subject = []
    bench = Bench(subject)
    for probe in (Nothing, OnNothing, Nothing):
        with pytest.raises(CannotMeasure, match="needs a loss"):
            bench.get(probe)
    assert subject == ["tried"]


def test_an_internal_error_becomes_a_reason():
    with pytest.raises(CannotMeasure, match=r"Broken: internal error ZeroDivisionError\('oops'\)"):
        Bench([]).get(Broken)


def test_a_developer_sees_the_error_itself(monkeypatch):
    monkeypatch.setenv("WHYVAE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        Bench([]).get(Broken)


def test_a_circle_is_named_not_followed():
    with pytest.raises(CannotMeasure, match="Hen -> Egg -> Hen"):
        Bench([]).get(Hen)


def test_only_probes_are_injected():
    with pytest.raises(TypeError, match="'length' is <class 'int'>, not a Probe"):
        Bench([]).call(wants_a_number)


def test_looking_leaves_the_random_streams_alone():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    Bench([]).get(Draws)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1][1].tolist()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
