"""Noise is drawn while training: the module is put into training mode before each step, or the condition turned round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import backward, calls, loops, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, dotted, elements
from whyvae.treat.source import Source
from whyvae.treat.terms import constant, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case

SNIPPET = "z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)  # while training\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    at = backward(sites)
    if not (_turned_round(at.source) or _mode(at.source, at.node) or _added(sites)):
        raise NoEdit("where z is made without noise was not found", SNIPPET, at.where)
    return sites.result()


def _turned_round(source: Source) -> bool:
    """`if not self.training: return mu + noise` -> `if self.training: ...`."""
    for branch in source.nodes(cst.If):
        test = branch.test
        negated = isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not)
        mode = test.expression if negated and isinstance(test, cst.UnaryOperation) else test
        if not dotted(mode).endswith(".training"):
            continue
        if _draws(source, branch.body) and negated:
            source.replace(test, source.code(mode))
            return True
        if (
            branch.orelse is not None
            and _draws(source, branch.orelse)
            and not negated
            and not _draws(source, branch.body)
        ):
            source.replace(test, f"not {source.code(mode)}")
            return True
    return False


def _draws(source: Source, block: cst.CSTNode) -> bool:
    return any(
        c for name in ("randn_like", "randn", "normal", "rsample", "normal_") for c in calls(source, name, block)
    )


def _mode(source: Source, node: cst.CSTNode) -> bool:
    """`model.train()` at the beginning of the loop's body, if something puts it into evaluation mode."""
    if not any(True for _ in calls(source, "eval")) or not loops(source, node):
        return False
    module = next(_modules(source, node), None)
    loop = loops(source, node)[0]
    if module is None or any(loops(source, c)[:1] == [loop] for c in calls(source, "train")):
        return False
    source.insert_first(loop, f"{module}.train()")
    return True


def _modules(source: Source, node: cst.CSTNode) -> Iterator[str]:
    """Names, known in the training loop, of modules: those whose mode is set, else those made of the file's classes."""
    function = source.enclosing(node, cst.FunctionDef)
    for method in ("train", "eval"):
        for call in calls(source, method):
            name = source.code(receiver(call)) if isinstance(call.func, cst.Attribute) else ""
            if name and source.enclosing(call, cst.FunctionDef) is function:
                yield name
    modules = {c.name.value for c in source.nodes(cst.ClassDef) if any("Module" in dotted(b.value) for b in c.bases)}
    for assign in source.nodes(cst.Assign):
        for target, value in zip(elements(assign.targets[0].target), elements(assign.value), strict=False):
            made = isinstance(value, cst.Call) and dotted(value.func) in modules
            if made and source.enclosing(assign, cst.FunctionDef) is function:
                yield dotted(target)


def _added(sites: Sites) -> bool:
    """Noise where z is made without: `z = mu + 0 * logvar` -> `z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)`;
    where z is mu itself, in what the decoder is called with.
    """
    subject = sites.subject
    lineage, deps, ops = subject.lineage, subject.deps, subject.tape.ops
    if lineage.posterior != "deterministic":
        return False
    if (at := deps.producer.get(lineage.z)) is not None:
        spot, names = sites.of(ops[at]), sites.names(ops[at])
        spread = [t for s in names if (t := _spread(sites, s, names[s]))]
        mu = [names[s] for s in ops[at].reads if s in names and not _spread(sites, s, names[s])]
        if spot is not None and spread and mu and not deps.is_mixing(ops[at]):
            spot.source.replace(spot.node, _noisy(mu[0], spread[0]))
            return True
    for op in (ops[p] for p in deps.readers.get(lineage.z, [])):
        code, names = sites.operand(op, lineage.z), sites.names(op)
        spread = [t for s in names if s != lineage.z and (t := _spread(sites, s, names[s]))]
        if code is not None and code.simple and spread and deps.is_mixing(op):
            code.source.replace(code.node, _noisy(code.code, spread[0]))
            return True
    return False


def _noisy(mu: str, spread: str) -> str:
    return f"{mu} + {spread} * torch.randn_like({mu})"


def _spread(sites: Sites, slot: int, name: str) -> str:
    """Sigma in the words of a name, by what the KL does to it: exp(logvar), exp(0.5 * logvar), log(std); "" of others."""
    ops, slots, lineage = sites.subject.tape.ops, sites.subject.tape.slots, sites.subject.lineage
    if slots[slot].shape != slots[lineage.z].shape or slot not in sites.subject.deps.encoded:
        return ""
    for op in (op for op in ops if slot in op.reads):
        if plain(op.name) == "exp":
            return f"torch.exp(0.5 * {name})"
        if plain(op.name) == "log":
            return name
        factor = constant(op)
        if factor and op.outs and any(plain(o.name) == "exp" and op.outs[0] in o.reads for o in ops):
            if plain(op.name) == "div":
                factor = 1 / factor
            return f"torch.exp({name})" if factor == 2 else f"torch.exp(0.5 * {name})"
    return ""
