"""GEN04: see the page of the same name."""

from __future__ import annotations

import io

import numpy as np
import torch

from whyvae.probe import OnDemand
from whyvae.probes.showing import Picture, Showing
from whyvae.probes.undone import Undone
from whyvae.rule import Rule
from whyvae.testing import Model, Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

CUT = Limit(">", 0.05, "a twentieth of the data's variance would be lost even if the decoder made no error")
WRAPPED = Limit(
    ">",
    0.01,
    "one number in a hundred begins again at the other end: bright specks in dark places, dark ones in bright",
)
LEVELS = Limit("<", 3, "black and white at most, whatever the decoder puts out")
FLAT = Limit("<", 0.6, "more than a third of the contrast of the data is gone")
MOVED = Limit(">", 0, "a picture is its numbers in their places")
UNITS = Limit(">", 0.05, "a twentieth of the data's variance off though the decoder made no error, in whatever units")
BROKEN = 0.2  # share of what is lost above which a picture is hardly one of the data


def _evidence(picture: Picture) -> tuple[Evidence, ...]:
    """Of each kind that this picture can have; what is wrong first."""
    found = [
        Evidence(
            "numbers of the picture out of their place", float(bool(picture.scrambled)), MOVED, text=picture.scrambled
        )
    ]
    if picture.levels < float("inf"):
        found.append(Evidence("different whole numbers that the picture can have", picture.levels, LEVELS))
    found.append(Evidence(f"share of the variance that {picture.by} cuts off", picture.cut, CUT))
    found.append(
        Evidence(
            "share of the shown numbers outside 0 to 255 when they are made whole numbers", picture.wrapped, WRAPPED
        )
    )
    if picture.contrast == picture.contrast:
        found.append(Evidence("contrast of the picture, relative to the data", picture.contrast, FLAT))
    return tuple(sorted(found, key=lambda e: not e.incriminating))


def _wrong(picture: Picture) -> bool:
    return _evidence(picture)[0].incriminating


def _summary(picture: Picture) -> str:
    worst = _evidence(picture)[0].limit
    given, allowed = "{:.3g} and {:.3g}".format(*picture.given), "{:.3g} to {:.3g}".format(*picture.allowed)
    if worst is MOVED:
        return f"Samples are shown with their numbers in wrong places: {picture.scrambled}."
    if picture.left_out and worst is not WRAPPED:
        return f"The pictures show the decoder's raw output (between {given}): in training it passes a {picture.left_out} before it is compared with the data, and here it does not."
    if worst is LEVELS:
        return f"Samples lie between {given} when they are made whole numbers from 0 to 255: the pictures are black."
    if worst is CUT:
        return f"{picture.by[0].upper() + picture.by[1:]} keeps {allowed} only, and perfect samples would arrive there between {given}: {picture.cut:.0%} of their variance would be lost."
    if worst is WRAPPED:
        return f"{picture.wrapped:.1%} of the samples' numbers lie outside 0 to 255 when they are made whole numbers, and begin again at the other end: specks."
    return f"The pictures have {picture.contrast:.0%} of the contrast of the data: samples are rescaled or squashed though they are in the data's range already."


def _remedy(picture: Picture) -> Remedy:
    worst = _evidence(picture)[0].limit
    if worst is MOVED:
        return Remedy(
            "exchange the axes",
            "move axes with permute (numpy: transpose) before reshape: x.permute(0, 2, 3, 1) from [n, colours, height, width]",
            "certain",
        )
    if picture.left_out and worst is not WRAPPED:
        return Remedy(
            "apply the activation",
            f"samples = torch.{picture.left_out}(decoder(z)) before they are shown; training needs no change",
            "certain",
        )
    if worst is WRAPPED:
        return Remedy(
            "clip first", "samples.clamp(0, 1) before mul(255) and the conversion to whole numbers", "certain"
        )
    return Remedy(
        "undo the scaling of the data",
        "do the inverse of what was done to the data: x * std + mean, (x + 1) / 2; then clamp(0, 1), mul(255) and the conversion to whole numbers",
        "certain",
    )


def _finding(picture: Picture) -> Finding:
    evidence = tuple(e for e in _evidence(picture) if e.incriminating)
    grave = evidence[0].limit in {MOVED, LEVELS} or picture.cut > BROKEN or picture.wrapped > BROKEN
    severity = "error" if grave else "warning"
    return Finding(evidence, _summary(picture), severity, 0.95, picture.at, remedies=(_remedy(picture),))  # type: ignore[arg-type]


def _moved(units: Undone) -> Evidence:
    return Evidence(
        f"share of the variance by which `{units.samples}` is off from `{units.original}`", units.moved, UNITS
    )


def _in_other_units(units: Undone) -> Finding:
    numbers, of = "{:.4g} and deviation {:.4g}", f"{units.link} of " if units.link else ""
    return Finding(
        (_moved(units),),
        f"`{units.samples}` holds new samples taken back to units of their own: {of}perfect ones would have mean {numbers.format(*units.made)} in column {units.feature}, where {of}`{units.original}` has mean {numbers.format(*units.real)}.",
        "error" if units.moved > BROKEN else "warning", 0.95, units.at,
        remedies=(
            Remedy(
                "undo the scaling of the data",
                "do the inverse of what was done to the data, with the same numbers: x * std + mean for (x - mean) / std, x * (high - low) + low for (x - low) / (high - low), before a logarithm is undone; scikit-learn: scaler.inverse_transform",
                "certain",
            ),
        ),
    )  # fmt: skip


def _not_rescaled(model: Model) -> None:
    with torch.no_grad():
        samples = model.decoder(torch.randn(16, model.mu.out_features)).numpy()
    np.save(io.BytesIO(), (samples * 255).astype(np.uint8))


class OutputPostprocessedWrong(Rule):
    """The model is fine; what is done to its output before it is saved or shown is not."""

    code = "GEN04"
    stage = 70
    requires = ("DAT01",)  # exact, and not healed by repairing the training: stands beside what is wrong there

    @staticmethod
    def check(showing: OnDemand[Showing], undone: OnDemand[Undone]) -> Verdict:
        shown, units = showing(), undone()
        pictures = shown.pictures if shown is not None else ()
        wrong = [p for p in pictures if _wrong(p)]
        if wrong and (wrong[-1] is pictures[-1] or len(wrong) == len(pictures)):
            return _finding(wrong[-1])
        if units is not None and _moved(units).incriminating:
            return _in_other_units(units)
        if not pictures and units is None:
            return Skipped(
                "does not apply: nothing was seen that shows, saves or rescales new samples and could be wrong"
            )
        return Healthy(_evidence(pictures[-1]) if pictures else (_moved(units),) if units is not None else ())

    @staticmethod
    def specimen() -> Subject:
        return Patient(generate=_not_rescaled).train()
