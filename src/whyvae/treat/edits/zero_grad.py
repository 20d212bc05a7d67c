"""Gradients are cleared before each backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import backward, built, called_at, calls, loops, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

SNIPPET = "optimizer.zero_grad()  # before loss.backward(), in each step\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if not case.subject.optimizers:
        _by_hand(sites)
        return sites.result()
    at = backward(sites)
    done: set[str] = set()
    for optimizer in case.subject.optimizers:
        step = called_at(sites, optimizer.stepped_at, "step")
        name = step.source.code(stepped(step))
        if name not in done:
            _clear(at, step, name)
        done.add(name)
    return sites.result()


def _clear(at: Spot, step: Spot, name: str) -> None:
    """Before each backward; behind the step where several backwards belong to one step."""
    source = step.source
    if source is at.source and _known(source, step.node, at.node) and _each_time(source, step.node, at.node):
        if not _cleared(source, at.node, name):
            source.insert_before(at.node, f"{name}.zero_grad()")
    elif isinstance(step.node, cst.Call) and step.node.args and source.code(receiver(step.node)) == name:
        raise NoEdit("`step` is given a function that calls `backward` elsewhere", SNIPPET, at.where)
    elif not _cleared(source, step.node, name):
        source.insert_after(step.node, f"{name}.zero_grad()")


def stepped(step: Spot) -> cst.BaseExpression:
    """`optimizer` of `optimizer.step()`, and of `scaler.step(optimizer)`."""
    owner = receiver(step.node)
    assert isinstance(step.node, cst.Call)  # noqa: S101 - see receiver
    made = built(Spot(step.source, owner))
    scaler = "scaler" in step.source.code(owner).lower() or (made is not None and "Scaler" in made.code)
    return step.node.args[0].value if scaler and step.node.args else owner


def _known(source: Source, step: cst.CSTNode, backward: cst.CSTNode) -> bool:
    """Is a name that the step is called with known at the backward: in its function, or in one it stands in?"""
    function = source.enclosing(step, cst.FunctionDef)
    return function is source.enclosing(backward, cst.FunctionDef) or (
        function is not None and source.inside(backward, function)
    )


def _each_time(source: Source, step: cst.CSTNode, backward: cst.CSTNode) -> bool:
    """Is each backward followed by a step: in one loop, and the step under no condition of its own?"""
    if source.enclosing(step, cst.FunctionDef) is not source.enclosing(backward, cst.FunctionDef):
        return True  # a closure
    branch = source.enclosing(step, (cst.If, cst.For, cst.While))
    alone = isinstance(branch, cst.If) and not source.inside(backward, branch)
    return not alone and loops(source, step)[:1] == loops(source, backward)[:1]


def _cleared(source: Source, node: cst.CSTNode, name: str) -> bool:
    """Is it cleared in the very loop of a backward or a step, each time the optimiser steps?"""
    mine = loops(source, node)[:1]
    return any(
        source.code(receiver(c)) == name and loops(source, c)[:1] == mine and not _seldom(source, c, name)
        and source.enclosing(c, cst.FunctionDef) is source.enclosing(node, cst.FunctionDef)
        for c in calls(source, "zero_grad") if isinstance(c.func, cst.Attribute)
    )  # fmt: skip


def _seldom(source: Source, clearing: cst.CSTNode, name: str) -> bool:
    """Under a condition of its own, which the step does not share (as it does where gradients are accumulated)?"""
    branch = source.enclosing(clearing, (cst.If, cst.For, cst.While))
    return isinstance(branch, cst.If) and not any(
        source.code(receiver(c)) == name for c in calls(source, "step", branch) if isinstance(c.func, cst.Attribute)
    )


def _by_hand(sites: Sites) -> None:
    """`p -= lr * p.grad`: the gradient is cleared behind it."""
    at = backward(sites)
    source = at.source
    cleared = any(c for c in calls(source, "zero_") if ".grad" in source.code(c))
    if cleared or any(".grad = None" in source.code(a) for a in source.nodes(cst.Assign)):
        raise NoEdit("the gradients are cleared already")
    for node in source.nodes(cst.Attribute):
        statement = source.statement(node)
        if node.attr.value == "grad" and isinstance(statement, cst.AugAssign) and loops(source, statement):
            source.insert_after(statement, f"{source.code(node)}.zero_()")
            return
    raise NoEdit("the statement that moves the parameters was not found", "parameter.grad.zero_()\n", at.where)
