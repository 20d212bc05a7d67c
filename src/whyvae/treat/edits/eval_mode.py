"""New examples are made in evaluation mode, and the model is left as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import calls, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sampling import Decoding, known_decodings, module_of
from whyvae.treat.sites import Sites
from whyvae.treat.source import dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = "model.eval()  # before new examples are made; model.train() before training goes on\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    found = known_decodings(sites, SNIPPET)
    changed = _dropout(sites, found)
    for decoding in found:
        changed |= _mode(sites, decoding)
    if not changed:
        raise NoEdit("the model is in evaluation mode already", SNIPPET, found[0].call.where)
    return sites.result()


def _dropout(sites: Sites, found: list[Decoding]) -> bool:
    """`F.dropout(h, 0.1)` -> `F.dropout(h, 0.1, training=self.training)` in a module's method."""
    done = False
    for op in (o for d in found for o in d.decoded.tape.ops if "dropout" in o.name):
        spot = sites.of(op)
        call = spot.node if spot is not None else None
        if spot is None or not isinstance(call, cst.Call) or dotted(call.func).split(".")[-1] != op.name:
            continue
        told = any(a.keyword is not None and a.keyword.value == "training" for a in call.args) or len(call.args) > 2
        if told or spot.source.enclosing(call, cst.ClassDef) is None:
            continue
        spot.source.cut(call.args[-1], call.args[-1], ", training=self.training")
        done = True
    return done


def _mode(sites: Sites, decoding: Decoding) -> bool:
    """`model.eval()` before, and `model.train()` behind where training goes on."""
    call, source = decoding.call, decoding.call.source
    module = module_of(call)
    scope = source.enclosing(call.node, cst.FunctionDef)
    here = [c for c in calls(source, "eval") if isinstance(c.func, cst.Attribute)
            and source.enclosing(c, cst.FunctionDef) is scope]  # fmt: skip
    if any(source.code(receiver(c)) in {module, module.split(".")[0]} for c in here):
        return False
    source.insert_before(call.node, f"{module}.eval()")
    if decoding.decoded.step < sites.subject.count:
        source.insert_after(call.node, f"{module}.train()")
    return True
