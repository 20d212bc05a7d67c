"""Where a number that the training used is written down: a literal, a constant, a default, a setting."""

from __future__ import annotations

import libcst as cst

from whyvae.treat.bindings import bindings, elsewhere
from whyvae.treat.operands import number
from whyvae.treat.sites import Spot

DEEPEST = 4  # names that stand for names that stand for names
LONGEST = 6  # the same, where no value is known to look for
LARGE, SMALL, SMALLEST = 1e4, 0.1, 1e-3  # from where powers of ten are written: below 0.1 in place of a power
WHOLE = 100  # from here on, what was a whole number is written as one: a count of steps


def literals(spot: Spot, value: float, depth: int = 0) -> list[Spot]:
    """The literals equal to `value` that an expression may stand for, best first; none where it is computed."""
    node = spot.node
    if number(node) is not None:
        return [spot] if same(number(node), value) else []
    if depth > DEEPEST:
        return []
    found: list[Spot] = []
    for candidates in (bindings, elsewhere):  # the name may be taken from a setting in another file
        for candidate in candidates(spot):
            for literal in literals(candidate, value, depth + 1):
                if all(literal.node is not f.node for f in found):
                    found.append(literal)
        if found:
            break
    return found


def literal(spot: Spot, value: float) -> Spot | None:
    """The one literal that an expression stands for; None where it is computed, or where there are several."""
    found = literals(spot, value)
    return found[0] if len(found) == 1 else None


def same(a: float | None, b: float) -> bool:
    return a is not None and abs(a - b) <= 1e-6 * max(abs(a), abs(b))


def the_number(spot: Spot, depth: int = 0) -> tuple[Spot, float] | None:
    """(The literal, its value) that an expression stands for, by itself or but for a small number added (`EPOCHS + 1`)."""
    node, value = spot.node, number(spot.node)
    if value is not None:
        return spot, value
    if depth > LONGEST:
        return None
    if isinstance(node, cst.BinaryOperation):
        if not isinstance(node.operator, cst.Add | cst.Subtract):
            return None
        ways = [s for s in (Spot(spot.source, node.left), Spot(spot.source, node.right)) if number(s.node) != 1]
    else:
        ways = list(bindings(spot))
    found = [f for way in ways if (f := the_number(way, depth + 1)) is not None]
    return found[0] if len(found) == 1 else None


def written(value: float, like: str = "") -> str:
    """A number as a person writes it; with a point, or a power of ten, where `like`, which it replaces, has one."""
    if like.replace("_", "").isdigit() and abs(value) >= WHOLE:
        return f"{round(value):_}" if "_" in like else str(round(value))
    powers = SMALL if "e" in like.lower() else SMALLEST
    if abs(value) >= LARGE or 0 < abs(value) < powers:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    text = f"{value:.4g}"
    return f"{text}.0" if "." in like and "." not in text and "e" not in text else text
