"""Parameters that nobody steps are given to the optimiser; layers in a plain list become parts of their module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import called_at, calls, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, dotted, elements
from whyvae.treat.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case

SNIPPET = "optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if not case.subject.optimizers:
        raise NoEdit("no optimiser was seen stepping", SNIPPET)
    stepped = {key for optimizer in case.subject.optimizers for key in optimizer.parameters}
    if all(id(s.value) in stepped for s in case.subject.tape.slots if s.trainable):
        raise NoEdit("every parameter is stepped already", SNIPPET)
    for way in (_registered, _stepped, _added, _whole):
        if way(sites):
            return sites.result()
    raise NoEdit("the module whose parameters are left out was not found", SNIPPET)


def _registered(sites: Sites) -> bool:
    """`self.layers = [nn.Linear(...), ...]` -> `nn.ModuleList([...])`."""
    done = False
    source = sites.script()
    for assign in source.nodes(cst.Assign):
        target, value = assign.targets[0].target, assign.value
        plain = isinstance(value, cst.List | cst.ListComp) and dotted(target).startswith("self.")
        if plain and (prefix := _layers(source, value)) is not None:
            source.scale(value, f"{prefix}ModuleList(", ")")
            done = True
    return done


def _layers(source: Source, value: cst.CSTNode) -> str | None:
    """`nn.` of a list of layers; None for other lists."""
    every = [value.elt] if isinstance(value, cst.ListComp) else elements(value)
    for element in every:
        name = dotted(element.func) if isinstance(element, cst.Call) else ""
        if name.split(".")[-1] in {"Linear", "Conv1d", "Conv2d", "ConvTranspose2d", "Sequential", "ConvTranspose1d"}:
            return name[: -len(name.split(".")[-1])] or "torch.nn."
    return None


def _stepped(sites: Sites) -> bool:
    """An optimiser that is made and never steps: steps behind the other."""
    source = sites.script()
    stepping = {source.code(receiver(c)) for c in calls(source, "step") if isinstance(c.func, cst.Attribute)}
    idle = [name for name in _optimisers(source) if name not in stepping]
    if len(idle) != 1 or not sites.subject.optimizers:
        return False
    step = called_at(sites, sites.subject.optimizers[0].stepped_at, "step")
    if step.source is not source or (source.enclosing(step.node, cst.FunctionDef) is not None and "." not in idle[0]):
        return False
    source.insert_after(step.node, f"{idle[0]}.step()")
    return True


def _optimisers(source: Source) -> Iterator[str]:
    for assign in source.nodes(cst.Assign):
        for target, value in zip(elements(assign.targets[0].target), elements(assign.value), strict=False):
            if isinstance(value, cst.Call) and _is_optimiser(value):
                yield dotted(target)


def _is_optimiser(call: cst.Call) -> bool:
    name = dotted(call.func)
    known = {"Adam", "AdamW", "SGD", "RMSprop", "Adamax", "NAdam", "RAdam", "Adagrad", "LBFGS", "Adadelta"}
    return name.split(".")[-1] in known and bool(call.args)


def _added(sites: Sites) -> bool:
    """`optimizer.add_param_group(...)` behind the line that makes it, for each module that was left out."""
    source = sites.script()
    made = [a for a in source.nodes(cst.Assign) if isinstance(a.value, cst.Call) and _is_optimiser(a.value)]
    missing = _missing(sites, source, made[0]) if len(made) == 1 else []
    for name in missing:
        source.insert_after(
            made[0], f'{dotted(made[0].targets[0].target)}.add_param_group({{"params": {name}.parameters()}})'
        )
    return bool(missing)


def _whole(sites: Sites) -> bool:
    """`self.model.encoder.parameters()` -> `self.model.parameters()`, where the rest of that model is left out."""
    source = sites.script()
    made = [c for c in source.nodes(cst.Call) if _is_optimiser(c)]
    given = made[0].args[0].value if len(made) == 1 else None
    if not isinstance(given, cst.Call) or not dotted(given.func).endswith(".parameters") or given.args:
        return False
    owner = receiver(given)
    if not isinstance(owner, cst.Attribute) or dotted(owner.value) in {"", "self"}:
        return False
    source.replace(owner, dotted(owner.value))
    return True


def _missing(sites: Sites, source: Source, made: cst.Assign) -> list[str]:
    """Names of modules that hold parameters the optimiser lacks, in scope where it is made."""
    subject = sites.subject
    stepped = {key for optimizer in subject.optimizers for key in optimizer.parameters}
    slots = [s for s in subject.tape.slots if s.trainable and id(s.value) in subject.names]
    left = {subject.names[id(s.value)].module for s in slots if id(s.value) not in stepped}
    right = {subject.names[id(s.value)].module for s in slots if id(s.value) in stepped}
    scope, found = source.enclosing(made, cst.FunctionDef), []
    for assign in source.nodes(cst.Assign):
        if source.enclosing(assign, cst.FunctionDef) is not scope or source.line(assign) >= source.line(made):
            continue
        for target, value in zip(elements(assign.targets[0].target), elements(assign.value), strict=False):
            kind = dotted(value.func).split(".")[-1] if isinstance(value, cst.Call) else ""
            if kind in left - right and dotted(target):
                found.append(dotted(target))
    return found
