"""Another weight and another formula of the KL, whatever the user's loss is: the difference is added to it.

What a loss does to the posterior directly is, where its formula was read exactly, sum(c1 mu^2/2 + c2 sigma^2/2 -
c3 log sigma + c4 mu). Adding the wanted KL and subtracting this leaves all else in the loss as it was; where the loss has
log q - log p at the sample, that is what is added and subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from whyvae.audit.batch import at_batch_size
from whyvae.audit.likelihood import audit_likelihood
from whyvae.audit.regulariser import audit_regulariser
from whyvae.probes.objective import Objective, audited_likelihood
from whyvae.treat.injector import Injector
from whyvae.treat.points import Point, PosteriorPoints, meeting_points, posterior_points, sigma_of
from whyvae.watch.lineage import Lineage, NoVAE
from whyvae.watch.replay import Replay, ReplayFailed

JSON = dict[str, Any]
Weight = Callable[[Injector], float | Tensor | None]
EXACT = 1e-3  # residual up to which the formula in the loss is known well enough to be taken out
STEADY = 0.02  # of log w between the first and the last step: beyond it the script has a schedule of its own


def posterior_settings(case: Any, objective: Objective) -> JSON | None:
    """What `add_kl` needs to know of the user's loss; None where the KL in it is not known or changes by itself."""
    points = posterior_points(case.subject)
    found = objective.regulariser
    known = found.form in {"exact", "none"} or (found.form == "wrong" and found.residual < EXACT)
    if points is None or not known or found.conditional or not _steady(objective):
        return None
    powers = _powers(case.subject, objective)
    if powers is None:
        return None
    coefficients = (0.0,) * 4 if found.form == "none" else found.coefficients
    return {
        "posterior": points.to_dict(), "coefficients": list(coefficients), "batch": objective.batch,
        "kl_power": powers[0], "scale_power": powers[1], "at_sample": found.monte_carlo and not found.by_path,
    }  # fmt: skip


def _powers(subject: Any, objective: Objective) -> tuple[float, float] | None:
    """How the weights of the KL and of the likelihood go with the batch size: 0 for a sum, -1 for a mean. A last,
    smaller batch must be treated as it is weighed. None where that cannot be tried, or where a number in the loss may be
    the batch or a width and that makes a difference.
    """
    try:
        found = {_powers_of(subject, objective, *read) for read in at_batch_size(subject, 0.5)}
    except (NoVAE, ReplayFailed, ValueError):
        return None
    return found.pop() if len(found) == 1 else None


def _powers_of(subject: Any, objective: Objective, lineage: Lineage, replay: Replay) -> tuple[float, float]:
    likelihood = audit_likelihood(lineage, replay)
    weight = audit_regulariser(lineage, replay).coefficients[2]
    share = subject.tape.slots[subject.lineage.z].shape[0] / replay.tape.slots[lineage.z].shape[0]
    scale = likelihood.scale if likelihood is not None else math.nan
    whole = objective.regulariser.coefficients[2]
    return _power(whole, weight, share), _power(objective.scale, scale, share)


def _power(whole: float, part: float, share: float) -> float:
    ratio = whole / part if part else math.nan
    return float(round(math.log(ratio) / math.log(share), 3)) if ratio > 0 else 0.0


def _steady(objective: Objective) -> bool:
    s, first = objective.noise_variance, objective.noise_variance_first
    return not (s > 0 and first > 0) or abs(torch.log(torch.tensor(s / first)).item()) < STEADY


def meeting_settings(case: Any) -> JSON | None:
    likelihood = audited_likelihood(case.subject)
    points = meeting_points(case.subject) if likelihood is not None else None
    return {"output": points[0].to_dict(), "target": points[1].to_dict()} if points else None


def add_kl(injector: Injector, settings: JSON, weight: Weight) -> None:
    """From now on the KL to N(0, I) has `weight(injector)` per nat, summed over the batch; None: leave the step alone."""
    points = PosteriorPoints.of(settings["posterior"])
    injector.want("mu", points.mu)
    injector.want("spread", points.spread)
    if settings["at_sample"] and points.z is not None:
        injector.want("z", points.z)

    def changed(loss: Tensor) -> Tensor:
        mu, spread, z = (injector.met.get(role) for role in ("mu", "spread", "z"))
        w = weight(injector)
        if mu is None or spread is None or w is None or not mu.requires_grad:
            injector.missed += 1
            return loss
        size = mu.shape[0] / settings["batch"]
        c1, c2, c3, c4 = (c * size ** settings["kl_power"] for c in settings["coefficients"])
        w = w * size ** settings["scale_power"]
        sigma = sigma_of(spread, points.spread_as)
        if z is not None:  # what is taken out has the noise of what is in the loss, and takes that along
            at_sample: Tensor = (0.5 * (w - c1) * z.square() - (w - c3) * sigma.log()).sum()
            return loss + at_sample
        squares = 0.5 * (w - c2) * (sigma.square() - 1)
        terms = (0.5 * (w - c1) * mu.square(), squares, -(w - c3) * sigma.log(), -c4 * mu)
        return loss + torch.stack([t.sum() for t in terms]).sum()

    injector.at_loss(changed)


def set_kl_weight(injector: Injector, settings: JSON) -> bool:
    """The KL gets the constant `settings["weight"]`; False where what `add_kl` needs was not found."""
    if "posterior" not in settings:
        return False
    add_kl(injector, settings, lambda _: settings["weight"])
    return True


def watch_residual(injector: Injector, settings: JSON) -> Callable[[], float | None]:
    """A running mean of the squared residual, [] in the data's unit squared; None before the first step."""
    for role in ("output", "target"):
        injector.want(role, Point.of(settings[role]))
    kept: list[float] = []

    def residual() -> float | None:
        output, target = injector.met.get("output"), injector.met.get("target")
        if output is not None and target is not None and output.numel() == target.numel():
            now = float((output.detach().float() - target.detach().float().reshape(output.shape)).square().mean())
            kept[:] = [now if not kept else kept[0] + 0.1 * (now - kept[0])]
        return kept[0] if kept else None

    return residual
