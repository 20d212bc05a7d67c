"""Gradients are cleared before each backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import backward, called_at, calls, loops, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites

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
        name = step.source.code(receiver(step.node))
        if step.source is not at.source or not _together(step.source, step.node, at.node):
            raise NoEdit("`step` is called elsewhere than `backward`", SNIPPET, at.where)
        if name not in done and not _cleared(at.source, at.node, name):
            at.source.insert_before(at.node, f"{name}.zero_grad()")
        done.add(name)
    return sites.result()


def _together(source: Source, step: cst.CSTNode, backward: cst.CSTNode) -> bool:
    """Do they stand in one function, so that a name in one is known in the other?"""
    return bool(source.enclosing(step, cst.FunctionDef) is source.enclosing(backward, cst.FunctionDef))


def _cleared(source: Source, backward: cst.CSTNode, name: str) -> bool:
    """Is it cleared in the very loop of the backward, each time the optimiser steps?"""
    mine = loops(source, backward)[:1]
    return any(
        source.code(receiver(c)) == name and loops(source, c)[:1] == mine and not _seldom(source, c, name)
        and source.enclosing(c, cst.FunctionDef) is source.enclosing(backward, cst.FunctionDef)
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
