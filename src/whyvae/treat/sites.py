"""Where in the user's source the functions of the recorded step were called, and by which names the tensors go there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.files import imports
from whyvae.treat.operands import operands_of, simple
from whyvae.treat.remedy import NoEdit
from whyvae.treat.source import ATOM, Source, dotted, tightness
from whyvae.watch.tape import Frame, Op, Ref

if TYPE_CHECKING:
    from whyvae.treat.case import Case


@dataclass(frozen=True, eq=False)
class Spot:
    """An expression of the user's."""

    source: Source
    node: cst.CSTNode

    @property
    def where(self) -> str:
        return f"{self.source.path}:{self.source.line(self.node)}"

    @property
    def code(self) -> str:
        return self.source.code(self.node)

    @property
    def closed(self) -> str:
        """Its text, in parentheses where a method could not be called on it as it stands."""
        return self.code if tightness(self.node) >= ATOM else f"({self.code})"

    @property
    def simple(self) -> bool:
        """A name, or attributes of one: may be written down again elsewhere in its function."""
        return simple(self.node)


class Sites:
    """The recorded step of a case beside its source."""

    def __init__(self, case: Case) -> None:
        self.case, self.subject = case, case.subject
        self._sources: dict[str, Source] = {}

    # ------------------------------------------------------------------ files
    def source(self, file: str) -> Source:
        """A file of the user's, and the edits collected for it.

        Raises:
            NoEdit: it is none of the user's.
        """
        if file not in self._sources:
            if not Path(file).is_file() or "site-packages" in file:
                raise NoEdit("the code is not in a file of yours")
            try:
                text = self.case.source(file)
            except (OSError, UnicodeDecodeError) as error:
                raise NoEdit(f"{file} could not be read as UTF-8") from error
            self._sources[file] = Source(file, text)
            self._sources[file].family = lambda: self.family
        return self._sources[file]

    @cached_property
    def family(self) -> list[Source]:
        """The files of the user's that the script and the recorded step are made of, those that could be read."""
        steps = {f.code.co_filename for op in self.subject.tape.ops for f in op.frames}
        todo, found = [str(Path(self.case.script).resolve()), *sorted(steps)], dict[str, Source]()
        while todo:
            file = todo.pop(0)
            if file not in found:
                with suppress(NoEdit):
                    found[file] = self.source(file)
                    todo += [i.file for i in imports(found[file])]
        return list(found.values())

    def script(self) -> Source:
        return self.source(str(Path(self.case.script).resolve()))

    @property
    def edited(self) -> bool:
        return any(s.edited for s in self._sources.values())

    def result(self) -> dict[str, str]:
        """Path of each edited file -> its new text."""
        edited = {file: s.result() for file, s in self._sources.items() if s.edited}
        if not edited:
            raise NoEdit("there was nothing to change")
        return edited

    # ------------------------------------------------------------------ from functions to expressions
    def of_frame(self, frame: Frame) -> Spot | None:
        if frame.span is None:
            return None
        try:
            source = self.source(frame.code.co_filename)
        except NoEdit:
            return None
        node = source.at(frame.span)
        return None if node is None else Spot(source, node)

    def of(self, op: Op, depth: int = 0) -> Spot | None:
        """The expression that called `op`; `depth` > 0: that called the function it stands in, and so on."""
        return self.of_frame(op.frames[depth]) if len(op.frames) > depth else None

    def operands(self, op: Op) -> list[tuple[Any, Spot]]:
        """(Ref or constant, its expression) of each argument of `op` that the source shows."""
        spot = self.of(op)
        if spot is None:
            return []
        pairs = operands_of(op, spot.source, spot.node, self._known(op), self._values)
        return [(value, Spot(spot.source, node)) for value, node in pairs]

    def _known(self, op: Op) -> dict[int, str]:
        return self._named.get(op.frames[0].code, {}) if op.frames else {}

    def operand(self, op: Op, slot: int) -> Spot | None:
        return next((s for value, s in self.operands(op) if isinstance(value, Ref) and value.slot == slot), None)

    def made_at(self, slot: int) -> Spot | None:
        """The expression whose value the tensor is; None where a call goes on with it (`svi.step(x)`) and gives something else."""
        position = self.subject.deps.producer.get(slot)
        if position is None:
            return None
        made, readers = self.subject.tape.ops[position], self.subject.deps.readers.get(slot, [])
        used_up = any(self.subject.tape.ops[r].frames == made.frames for r in readers)
        return None if used_up else self.of(made)

    # ------------------------------------------------------------------ names
    @cached_property
    def _named(self) -> dict[Any, dict[int, str]]:
        """Function (its code object) -> slot -> the name it has there."""
        found: dict[Any, dict[int, str]] = {}
        self.__dict__["_named"] = found  # what is known so far helps to read the rest
        returned: dict[tuple[Any, Frame], Op] = {}
        for op in self.subject.tape.ops:
            spot = self.of(op)
            if spot is None:
                continue
            names = found.setdefault(op.frames[0].code, {})
            for slot, name in (*_bound(op, spot), *self._passed(op)):
                names.setdefault(slot, name)
            if len(op.frames) > 1:
                returned[op.frames[0].code, op.frames[1]] = op
        inner_first = sorted(returned.values(), key=lambda op: -len(op.frames))
        self._outwards(found, inner_first, self._returned)
        for op in self.subject.tape.ops:  # which side of `weight * kl` is the tensor, is known by what was given a name
            for value, operand in self.operands(op):
                if isinstance(value, Ref) and operand.simple:
                    found[op.frames[0].code].setdefault(value.slot, operand.code)
        self._outwards(found, inner_first, self._returned, self._handed)
        for op in self.subject.tape.ops:  # what a caller knows by now, though the function may never read it
            for slot, name in self._passed(op):
                found[op.frames[0].code].setdefault(slot, name)
        return found

    @staticmethod
    def _outwards(
        found: dict[Any, dict[int, str]], ops: list[Op], *ways: Callable[[Op], Iterator[tuple[int, str]]]
    ) -> None:
        for op in ops:
            for way in ways:
                for slot, name in way(op):
                    found.setdefault(op.frames[1].code, {}).setdefault(slot, name)

    @cached_property
    def _values(self) -> dict[int, int]:
        """id of an expression -> the slot it made."""
        spots = ((op, self.of(op)) for op in self.subject.tape.ops if len(op.outs) == 1)
        return {id(spot.node): op.outs[0] for op, spot in spots if spot is not None}

    def _returned(self, op: Op) -> Iterator[tuple[int, str]]:
        """(slot, name) for what the function that called `op` gave back to names."""
        spot, call = self.of(op), self.of(op, 1)
        function = spot.source.enclosing(spot.node, cst.FunctionDef) if spot else None
        target = _target(call.source, call.node) if call else None
        if spot is None or target is None or function is None:
            return
        inner = {name: slot for slot, name in self.names(op).items()}
        for statement in spot.source.nodes(cst.Return, function):
            made, names = elements(statement.value), elements(target)
            for value, name in zip(made, names, strict=False) if len(made) == len(names) else ():
                slot = inner.get(dotted(value), self._values.get(id(value)))
                if slot is not None and simple(name):
                    yield slot, dotted(name)

    def _handed(self, op: Op) -> Iterator[tuple[int, str]]:
        """(slot, name outside) for what the function that called `op` was given, and reads under its own name."""
        spot, call = self.of(op), self.of(op, 1)
        function = spot.source.enclosing(spot.node, cst.FunctionDef) if spot else None
        if call is None or function is None or not isinstance(call.node, cst.Call):
            return
        first: dict[str, int] = {}
        for slot, name in self.names(op).items():
            first[name] = min(slot, first.get(name, slot))
        for parameter, value in arguments(function, call.node).items():
            if parameter in first and simple(value):
                yield first[parameter], dotted(value)

    def _passed(self, op: Op) -> Iterator[tuple[int, str]]:
        """(slot, name of the parameter) for what the function that called `op` was given by name."""
        call = self.of(op, 1)
        if call is None or not isinstance(call.node, cst.Call):
            return
        spot = self.of(op)
        function = spot.source.enclosing(spot.node, (cst.FunctionDef, cst.Lambda)) if spot else None
        if function is None:
            return
        outer = {name: slot for slot, name in self._named.get(op.frames[1].code, {}).items()}
        for parameter, value in arguments(function, call.node).items():
            if simple(value) and (slot := outer.get(dotted(value))) is not None:
                yield slot, parameter

    def name(self, slot: int, where: Op) -> str | None:
        """What the tensor is called in the function that called `where`."""
        return self.names(where).get(slot)

    def names(self, where: Op) -> dict[int, str]:
        return self.names_of(where.frames[0].code) if where.frames else {}

    def names_of(self, code: CodeType) -> dict[int, str]:
        """Slot -> its name in a function of the user's."""
        return self._named.get(code, {})


def arguments(function: cst.CSTNode, call: cst.Call) -> dict[str, cst.BaseExpression]:
    """Parameter -> what a call gives for it."""
    parameters = [p.name.value for p in (*function.params.posonly_params, *function.params.params)]  # type: ignore[attr-defined]
    if parameters[:1] in (["self"], ["cls"]):
        parameters = parameters[1:]
    given: dict[str, cst.BaseExpression] = {}
    for position, argument in enumerate(call.args):
        if argument.star:
            break
        if argument.keyword is not None:
            given[argument.keyword.value] = argument.value
        elif position < len(parameters):
            given[parameters[position]] = argument.value
    return given


def _target(source: Source, node: cst.CSTNode) -> cst.CSTNode | None:
    """What the value of an expression is assigned to, if that is what is done with it."""
    above = source.parent(node)
    if isinstance(above, cst.Element) and isinstance(row := source.parent(above), cst.Tuple):
        targets = elements(_target(source, row))
        place = next(i for i, e in enumerate(row.elements) if e is above)
        return targets[place] if len(targets) == len(row.elements) else None
    if not isinstance(above, cst.Assign) or above.value is not node or len(above.targets) != 1:
        return None
    return above.targets[0].target


def elements(node: cst.CSTNode | None) -> list[cst.CSTNode]:
    """Of a tuple its elements; of anything else the thing itself."""
    if isinstance(node, cst.Tuple | cst.List):
        return [e.value for e in node.elements]
    return [] if node is None else [node]


def _bound(op: Op, spot: Spot) -> Iterator[tuple[int, str]]:
    """(slot, name) where the expression's value is given a name."""
    names = elements(_target(spot.source, spot.node))
    if len(names) == len(op.outs):
        yield from ((o, spot.source.code(n)) for o, n in zip(op.outs, names, strict=True) if simple(n))
