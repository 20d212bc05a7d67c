"""Noise is drawn while training: the module is put into training mode before each step, or the condition turned round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import backward, calls, loops, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, dotted, elements
from whyvae.treat.source import Source
from whyvae.treat.terms import plain
from whyvae.watch.tape import Op

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
    """`decoder(z)` where z is mu -> `decoder(z + torch.exp(0.5 * logvar) * torch.randn_like(z))`."""
    subject = sites.subject
    lineage, deps, ops = subject.lineage, subject.deps, subject.tape.ops
    if lineage.posterior != "deterministic":
        return False
    for op in (ops[p] for p in deps.readers.get(lineage.z, [])):
        code, names = sites.operand(op, lineage.z), sites.names(op)
        spread = [_spread(ops, s, names[s]) for s in names if s != lineage.z and s in lineage.heads]
        found = [s for s in spread if s]
        if code is not None and code.simple and found and deps.is_mixing(op):
            code.source.replace(code.node, f"{code.code} + {found[0]} * torch.randn_like({code.code})")
            return True
    return False


def _spread(ops: list[Op], slot: int, name: str) -> str:
    """Sigma in the words of a name, by what the KL does to it: exp(logvar), log(std)."""
    does = {plain(op.name) for op in ops if slot in op.reads}
    if "exp" in does:
        return f"torch.exp(0.5 * {name})"
    return name if "log" in does else ""
