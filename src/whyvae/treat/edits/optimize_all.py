"""Parameters that nobody steps are given to the optimiser; layers in a plain list become parts of their module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.left_out import add_tensors, unstepped
from whyvae.treat.optimisers import is_maker, makers
from whyvae.treat.program import called_at, calls, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import Source, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op

SNIPPET = "optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)\n"
GIVEN = "already_given"  # parameters of the optimiser, in the edit of `_rest`


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if not unstepped(sites)[0]:
        raise NoEdit("every parameter is stepped already", SNIPPET)
    for way in (_registered, _stepped, _listed, _rest) if case.subject.optimizers else ():
        if any(way(sites, source) for source in sites.family):
            return sites.result()
    if add_tensors(sites):
        return sites.result()
    raise NoEdit("what holds the parameters that are left out was not found", SNIPPET)


def _registered(sites: Sites, source: Source) -> bool:
    """`self.layers = [nn.Linear(...), ...]` -> `nn.ModuleList([...])`."""
    done = False
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


def _stepped(sites: Sites, source: Source) -> bool:
    """An optimiser that is made and never steps: steps behind the other."""
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
            if isinstance(value, cst.Call) and is_maker(value):
                yield dotted(target)


def _listed(sites: Sites, source: Source) -> bool:
    """What the optimiser is given: whole modules where it had some of their parts, and those it had not at all.

    `Adam([*net.encoder.parameters(), *net.mu.parameters()])` -> `Adam(net.parameters())`.
    """
    made = list(makers(source))
    if len(made) != 1:
        return False
    maker = made[0]
    given = _written(source, maker.args[0].value)
    owners = list(dict.fromkeys(dotted(receiver(c)) for c in calls(source, "parameters", given)))
    missing = _missing(sites, source, maker)
    if not missing or not owners or not all(owners):
        return False
    if any(True for _ in source.nodes(cst.Dict, given)):  # groups with settings of their own stay as they are
        return _added(source, maker, [m for m in missing if m not in owners])
    wider = [min((m for m in missing if _below(o, m)), key=len, default=o) for o in owners]
    every = list(dict.fromkeys([*wider, *missing]))
    every = [m for m in every if not any(_below(m, other) for other in every if other != m)]
    alone = len(every) == 1 and given is maker.args[0].value  # a named list may be read again: no generator
    listed = f"{every[0]}.parameters()" if alone else f"[{', '.join(f'*{m}.parameters()' for m in every)}]"
    source.replace(given, listed)
    return True


def _written(source: Source, given: cst.CSTNode) -> cst.CSTNode:
    """The list itself, where the optimiser is given a name for it."""
    found = (
        [s.node for s in bindings(Spot(source, given)) if s.source is source]
        if isinstance(given, cst.Name | cst.Attribute)
        else []
    )
    return found[0] if len(found) == 1 else given


def _below(name: str, other: str) -> bool:
    """Is it that module, or a part of it?"""
    return name == other or name.startswith(f"{other}.")


def _added(source: Source, maker: cst.Call, missing: list[str]) -> bool:
    """`optimizer.add_param_group(...)` behind the line that makes it, for each module that was left out."""
    assign = source.parent(maker)
    if not isinstance(assign, cst.Assign):
        return False
    name = dotted(assign.targets[0].target)
    for module in missing:
        source.insert_after(assign, f'{name}.add_param_group({{"params": {module}.parameters()}})')
    return bool(missing)


def _rest(sites: Sites, source: Source) -> bool:
    """Where tensors were picked one by one (`if "conv" in name`): what the optimiser was not given of the modules, as a group."""
    made = list(makers(source))
    assign = source.parent(made[0]) if len(made) == 1 else None
    if not isinstance(assign, cst.Assign):
        return False
    missing, name = _missing(sites, source, made[0]), dotted(assign.targets[0].target)
    if not missing or not name or any(n.value == GIVEN for n in source.nodes(cst.Name)):
        return False
    every = (
        f"{missing[0]}.parameters()" if len(missing) == 1 else f"[{', '.join(f'*{m}.parameters()' for m in missing)}]"
    )
    source.insert_after(
        assign,
        f'{GIVEN} = {{p for group in {name}.param_groups for p in group["params"]}}\n'
        f'{name}.add_param_group({{"params": [p for p in {every} if p not in {GIVEN}]}})',
    )
    return True


def _missing(sites: Sites, source: Source, maker: cst.Call) -> list[str]:
    """Modules that hold parameters nobody steps, by names that are known where the optimiser is made."""
    subject = sites.subject
    stepped = {key for optimizer in subject.optimizers for key in optimizer.parameters}
    slots = subject.tape.slots
    left = {s.index for s in slots if s.trainable and id(s.value) not in stepped}
    found: list[str] = []
    for op in subject.tape.ops:
        if left.isdisjoint(op.reads):
            continue
        names = [
            name for depth in reversed(range(len(op.frames))) if (name := _module(sites, source, maker, op, depth))
        ]
        if not names:
            return []  # a module without a name there: no edit would give all
        found.append(names[0])
    return list(dict.fromkeys(found))


def _module(sites: Sites, source: Source, maker: cst.Call, op: Op, depth: int) -> str:
    """`decoder` of `decoder(z)`, `net` of `net(x)` or `net.decode(z)`, if it is known beside the optimiser; else ""."""
    spot = sites.of(op, depth)
    if spot is None or spot.source is not source or not isinstance(spot.node, cst.Call):
        return ""
    name = dotted(spot.node.func)
    own = [f for f in source.nodes(cst.FunctionDef) if f.name.value == name.rpartition(".")[2]]
    if own:  # a function of the user's, or a method: of the module it is called on
        name = name.rpartition(".")[0] if all(_of_module(source, f) for f in own) else ""
    return name if name not in {"", "self", "F", "torch"} and _known(source, spot.node, maker, name) else ""


def _of_module(source: Source, function: cst.CSTNode) -> bool:
    owner = source.enclosing(function, cst.ClassDef)
    return owner is not None and any("Module" in dotted(base.value) for base in owner.bases)


def _known(source: Source, here: cst.CSTNode, maker: cst.CSTNode, name: str) -> bool:
    """Does a name mean the same beside the optimiser? It is an attribute of the same class, or assigned in that scope."""
    root = name.partition(".")[0]
    if root == "self":
        owner = source.enclosing(here, cst.ClassDef)
        return owner is not None and owner is source.enclosing(maker, cst.ClassDef)
    scope = source.enclosing(maker, cst.FunctionDef)
    assigned = {
        dotted(t) for a in source.nodes((cst.Assign, cst.AnnAssign)) if source.enclosing(a, cst.FunctionDef) in {scope, None}
        for t in _targets(a)
    }  # fmt: skip
    parameters = {p.name.value for p in scope.params.params} if scope is not None else set()
    return root in assigned | parameters


def _targets(assign: cst.Assign | cst.AnnAssign) -> list[cst.CSTNode]:
    if isinstance(assign, cst.AnnAssign):
        return [assign.target]
    return [e for target in assign.targets for e in elements(target.target)]
