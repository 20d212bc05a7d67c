"""Noise is drawn while training: the module is put into training mode before each step, or the condition turned round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.program import backward, calls, loops, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import Source, dotted
from whyvae.treat.terms import constant, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from whyvae.treat.case import Case

SNIPPET = "z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)  # while training\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    at = backward(sites)
    if not (any(_turned_round(source) for source in sites.family) or _mode(at.source, at.node) or _added(sites)):
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
        if _draws(source, branch.body):
            if negated:
                source.replace(test, source.code(mode))
                return True
        elif not negated and (_draws(source, branch.orelse) if branch.orelse else _draws_behind(source, branch)):
            source.replace(test, f"not {source.code(mode)}")
            return True
    return any(_choice(source, choice) for choice in source.nodes(cst.IfExp))


def _choice(source: Source, choice: cst.IfExp) -> bool:
    """`mu if self.training else mu + noise`."""
    negated = isinstance(choice.test, cst.UnaryOperation) and isinstance(choice.test.operator, cst.Not)
    mode = choice.test.expression if negated and isinstance(choice.test, cst.UnaryOperation) else choice.test
    trained, other = (choice.orelse, choice.body) if negated else (choice.body, choice.orelse)
    if not dotted(mode).endswith(".training") or _draws(source, trained) or not _draws(source, other):
        return False
    source.replace(choice.test, source.code(mode) if negated else f"not {source.code(mode)}")
    return True


def _draws_behind(source: Source, branch: cst.If) -> bool:
    """`if ...: return mu`, and noise drawn in what follows it."""
    returns = any(source.enclosing(r, (cst.If, cst.FunctionDef)) is branch for r in source.nodes(cst.Return, branch))
    block = getattr(source.parent(branch), "body", ())
    return returns and branch in block and any(_draws(source, s) for s in block[block.index(branch) + 1 :])


def _draws(source: Source, block: cst.CSTNode) -> bool:
    """Is noise drawn there, or read by a name?"""
    names = ("randn_like", "randn", "normal", "rsample", "normal_")
    values = (v for n in source.nodes(cst.Name, block) for v in bindings(Spot(source, n)))
    places = ((source, block), *((v.source, v.node) for v in values))
    return any(True for file, place in places for name in names for _ in calls(file, name, place))


def _mode(source: Source, node: cst.CSTNode) -> bool:
    """`model.train()` at the beginning of the loop's body, if something puts it into evaluation mode."""
    if not loops(source, node) or not _evaluating(source, node):
        return False
    module = next(_modules(source, node), None)
    if module is None:
        return False
    source.insert_first(loops(source, node)[0], f"{module}.train()")
    return True


def _evaluating(source: Source, node: cst.CSTNode) -> bool:
    """Is evaluation mode the last that was set when a statement in a loop runs (again)?"""
    function, line = source.enclosing(node, cst.FunctionDef), source.line(node)
    every = _modes_set(source, function)
    if function is not None and not every:  # set outside, before the function is called
        called = [c for c in calls(source, function.name.value) if not source.inside(c, function)]
        return any(_evaluating(source, c) for c in called)
    for loop in loops(source, node):
        inside = [e for e in every if source.line(loop) <= e[0] <= source.end_line(loop)]
        last = [m for at, m in inside if at < line][-1:] or [m for _, m in inside][-1:]
        if last:
            return last == ["eval"]
    return [m for at, m in every if at < line][-1:] == ["eval"]


def _modes_set(source: Source, function: cst.CSTNode | None) -> list[tuple[int, str]]:
    """(line, "train" or "eval") of each change of mode in a function's own text: written there, or left by what it calls."""
    left: dict[str, str] = {}
    direct: dict[cst.CSTNode | None, list[tuple[int, str]]] = {}
    for mode in ("train", "eval"):
        for call in calls(source, mode):
            if isinstance(call.func, cst.Attribute):
                direct.setdefault(source.enclosing(call, cst.FunctionDef), []).append((source.line(call), mode))
    for other, found in direct.items():
        if isinstance(other, cst.FunctionDef) and other is not function:
            left[other.name.value] = max(found)[1]
    inside = [(source.line(c), left[n]) for n in left for c in calls(source, n)
              if source.enclosing(c, cst.FunctionDef) is function]  # fmt: skip
    return sorted([*direct.get(function, ()), *inside])


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
            if made and _known(source, dotted(target), source.enclosing(assign, cst.FunctionDef), function):
                yield dotted(target)


def _known(source: Source, name: str, there: cst.CSTNode | None, function: cst.CSTNode | None) -> bool:
    """Is a name that is bound in `there` (None: the file itself) the same in `function`?"""
    if there is function or there is not None or function is None:
        return there is function
    own = (elements(target.target) for a in source.nodes(cst.Assign, function) for target in a.targets)
    return not any(dotted(n) == name for names in own for n in names)


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
