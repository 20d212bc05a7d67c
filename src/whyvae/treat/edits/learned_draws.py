"""New examples are decoded from draws of the prior that the model learned, where the script holds it as a distribution."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.operands import imported
from whyvae.treat.program import built
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sampling import Decoding, drawn, known_decodings
from whyvae.treat.sites import Sites, Spot, arguments
from whyvae.treat.source import Source, dotted, name_called
from whyvae.watch.tape import Op

if TYPE_CHECKING:
    from whyvae.treat.case import Case

DEEPEST = 4  # names of names
COUNTS = {"n", "num", "count", "size", "n_samples", "num_samples", "batch", "batch_size", "N", "k", "m", "b", "B"}  # fmt: skip
SNIPPET = "z = prior.sample((16,))  # the distribution that the KL compares the posterior with\nimages = decoder(z)\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    found = known_decodings(sites, SNIPPET)
    prior = next(_priors(sites), None)
    if prior is None:
        raise NoEdit("the prior is not held as a distribution of torch's", SNIPPET, found[0].call.where)
    mended = [_mended(sites, prior, d) for d in found]
    if not any(mended):
        raise NoEdit("how the latents are drawn was not understood", SNIPPET, found[0].call.where)
    return sites.result()


def _priors(sites: Sites) -> Iterator[Spot]:
    """`prior` of `prior.log_prob(z)` and of `kl_divergence(posterior, prior)`, where nothing of it comes from the encoder."""
    lineage, deps = sites.subject.lineage, sites.subject.deps
    encoded, reads, makes = (
        deps.descendants(lineage.heads),
        defaultdict[int, set[int]](set),
        defaultdict[int, set[int]](set),
    )
    calls: dict[int, Spot] = {}
    for op in sites.subject.tape.ops:
        for depth in range(len(op.frames)):
            spot = sites.of(op, depth)
            if spot is not None and _compares(spot.node):
                calls[id(spot.node)] = spot
                reads[id(spot.node)].update(op.reads)
                makes[id(spot.node)].update(op.outs)
    for key, spot in calls.items():
        assert isinstance(spot.node, cst.Call)  # noqa: S101 - see _compares
        given = reads[key] - makes[key]
        if isinstance(spot.node.func, cst.Attribute) and name_called(spot.node) == "log_prob":
            if lineage.z in given and given & encoded <= {lineage.z}:
                yield Spot(spot.source, spot.node.func.value)
        elif given & encoded and len(spot.node.args) == 2:
            yield Spot(spot.source, spot.node.args[1].value)


def _compares(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and name_called(node) in {"log_prob", "kl_divergence"}


def _mended(sites: Sites, prior: Spot, decoding: Decoding) -> bool:
    done = False
    for op in drawn(decoding.decoded):
        spot = sites.of(op)
        rows = _rows(op, spot) if spot is not None else None
        if spot is None or rows is None:
            continue
        draw = _draw(prior, rows)
        text = None if draw is None else _written_at(prior, draw, spot, decoding)
        if text is not None:
            spot.source.replace(spot.node, text)
            done = True
    return done


def _draw(prior: Spot, rows: list[str]) -> str | None:
    """`.sample((n,))`; of a class of the user's that says how it draws, `.sample(n, self.encode)`, what else it needs being
    what its `log_prob` is given. None where that does not tell.
    """
    made = built(prior)
    name = name_called(made.node) if made is not None and isinstance(made.node, cst.Call) else ""
    own = [c for file in prior.source.family() for c in file.nodes(cst.ClassDef) if c.name.value == name]
    if not own:
        return f".sample(({', '.join(rows)}{',' if len(rows) == 1 else ''}))"
    methods = {f.name.value: f for f in own[0].body.body if isinstance(f, cst.FunctionDef)}
    call = prior.source.parent(prior.node)
    call = None if call is None else prior.source.parent(call)
    if not {"sample", "log_prob"} <= set(methods) or not isinstance(call, cst.Call) or len(rows) != 1:
        return None
    given = arguments(methods["log_prob"], call)
    first, *others = [
        p.name.value for p in methods["sample"].params.params if p.name.value != "self" and not p.default
    ] or [""]
    if first not in COUNTS or any(o not in given or _names(Spot(prior.source, given[o])) != {"self"} for o in others):
        return None
    return f".sample({', '.join([rows[0], *(prior.source.code(given[o]) for o in others)])})"


def _rows(op: Op, spot: Spot) -> list[str] | None:
    """`n` of `torch.randn(n, 8)`, `torch.randn((n, 8))` and `Normal(0, 1).sample((n, 8))`."""
    node = spot.node
    if op.name not in {"randn", "randn_like", "normal"} or not isinstance(node, cst.Call):
        return None
    given = [a.value for a in node.args if a.keyword is None and not a.star]
    if op.name == "randn_like" and len(given) == 1:
        return [f"*{spot.source.code(given[0])}.shape[:-1]"]
    if len(given) == 1 and isinstance(given[0], cst.Tuple | cst.List):
        given = [e.value for e in given[0].elements]
    return [spot.source.code(g) for g in given[:-1]] or None


def _written_at(prior: Spot, draw: str, at: Spot, decoding: Decoding) -> str | None:
    """The draw as it can be written where the latents are drawn: of attributes of the model and of global names."""
    whole = _of_the_model(prior, DEEPEST)
    if whole is None or (whole.source is not at.source and _names(whole) != {"self"}):
        return None  # another file may not know these names
    text, owner = whole.closed + draw, _class_of(whole)
    if owner is None or not re.search(r"\bself\b", text):
        return text
    if _class_of(at) is not None and _same_object(whole.source, owner, _class_of(at)):
        return text
    model = _first_name(decoding.call.node)
    made = built(Spot(decoding.call.source, model)) if model is not None else None
    if (
        model is not None
        and made is not None
        and isinstance(made.node, cst.Call)
        and dotted(made.node.func).split(".")[-1] == owner.name.value
    ):
        return re.sub(r"\bself\b", model.value, text)
    return None


def _first_name(node: cst.CSTNode) -> cst.Name | None:
    """`model` of `model.decoder(z)`."""
    while isinstance(node, cst.Call | cst.Attribute):
        node = node.func if isinstance(node, cst.Call) else node.value
    return node if isinstance(node, cst.Name) else None


def _of_the_model(prior: Spot, depth: int) -> Spot | None:
    """A name that has its value in the same function is followed to the expression it was given."""
    function = prior.source.enclosing(prior.node, cst.FunctionDef)
    free = _names(prior) - imported(prior.source) - {"self"}
    if function is None or not any(_local(prior.source, function, name) for name in free):
        return prior
    if not isinstance(prior.node, cst.Name) or depth == 0:
        return None
    found = list(bindings(prior))
    return _of_the_model(found[0], depth - 1) if len(found) == 1 else None


def _names(spot: Spot) -> set[str]:
    """The names an expression begins with: `self` of `self.prior()`."""
    source = spot.source
    inner = [spot.node] if isinstance(spot.node, cst.Name) else list(source.nodes(cst.Name, spot.node))
    kept = set()
    for name in inner:
        above = source.parent(name)
        attribute = isinstance(above, cst.Attribute) and above.attr is name
        keyword = isinstance(above, cst.Arg) and above.keyword is name
        if not attribute and not keyword:
            kept.add(name.value)
    return kept


def _local(source: Source, function: cst.FunctionDef, name: str) -> bool:
    parameters = {
        p.name.value for p in (*function.params.posonly_params, *function.params.params, *function.params.kwonly_params)
    }
    assigned = {dotted(t.target) for a in source.nodes(cst.Assign, function) for t in a.targets}
    return name in parameters | assigned


def _class_of(spot: Spot) -> Any:
    return spot.source.enclosing(spot.node, cst.ClassDef)


def _same_object(source: Source, one: cst.ClassDef, other: cst.ClassDef) -> bool:
    """Are both classes of one object: the same, one a base of the other, or bases of a third?"""
    if one.name.value == other.name.value:
        return True
    bases = {
        c.name.value: {dotted(b.value).split(".")[-1] for b in c.bases}
        for f in source.family()
        for c in f.nodes(cst.ClassDef)
    }
    wanted = {one.name.value, other.name.value}
    return any(wanted <= _line_of(bases, name) for name in bases)


def _line_of(bases: dict[str, set[str]], name: str) -> set[str]:
    """A class with all that it inherits from."""
    found, todo = set[str](), [name]
    while todo:
        here = todo.pop()
        if here not in found:
            found.add(here)
            todo += bases.get(here, ())
    return found
