"""One of the user's files as a tree with positions, and edits of it that leave all other text as it is."""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, ParentNodeProvider, PositionProvider

from whyvae.treat.remedy import NoEdit

Span = tuple[int, int, int, int]  # line, end line, column, end column in bytes, as Python's own code objects have it
_LOOSE = (cst.IfExp, cst.Lambda, cst.BooleanOperation, cst.Comparison, cst.NamedExpr, cst.Yield, cst.Tuple)
_SUMS = (cst.Add, cst.Subtract, cst.BitOr, cst.BitAnd, cst.BitXor, cst.LeftShift, cst.RightShift)


WIDEST = 110  # characters of a line that gets a comment


class Source:
    """The text, its tree, and the edits collected so far: none overlaps another."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text
        try:
            wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        except (cst.ParserSyntaxError, RecursionError) as error:
            raise NoEdit(f"{path} could not be read as Python") from error
        self.module = wrapper.module
        self._ranges = wrapper.resolve(PositionProvider)
        self._parents = wrapper.resolve(ParentNodeProvider)
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self._edits: list[tuple[int, int, int, str]] = []  # start, end, order, new text
        self.family: Callable[[], list[Source]] = lambda: [self]  # the files of the program it is one of

    # ------------------------------------------------------------------ finding
    @cached_property
    def _by_range(self) -> dict[Span, cst.CSTNode]:
        """Outermost node of each span that is an expression or a small statement."""
        found: dict[Span, cst.CSTNode] = {}
        for node, where in self._ranges.items():
            if isinstance(node, cst.BaseExpression | cst.BaseSmallStatement):
                span = (where.start.line, where.end.line, where.start.column, where.end.column)
                if span not in found or isinstance(found[span], cst.BaseSmallStatement):
                    found[span] = node
        return found

    @cached_property
    def _lines(self) -> list[str]:
        return list(io.StringIO(self.text, newline=""))

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for line in self._lines:
            starts.append(starts[-1] + len(line))
        return starts

    def at(self, span: Span) -> cst.CSTNode | None:
        """The expression or statement that begins and ends there."""
        line, end, column, end_column = span
        return self._by_range.get((line, end, self._column(line, column), self._column(end, end_column)))

    def _column(self, line: int, in_bytes: int) -> int:
        if line > len(self._lines):
            return in_bytes
        text = self._lines[line - 1]
        return in_bytes if text.isascii() else len(text.encode()[:in_bytes].decode(errors="ignore"))

    def nodes(self, kind: type | tuple[type, ...], within: cst.CSTNode | None = None) -> Iterator[Any]:
        """Nodes of a kind, in the order of the text."""
        for node in self._ranges:
            if isinstance(node, kind) and (within is None or self.inside(node, within)):
                yield node

    def inside(self, node: cst.CSTNode, outer: cst.CSTNode) -> bool:
        return any(above is outer for above in self.above(node))

    def above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """`node` and what it stands in, outwards."""
        here: cst.CSTNode | None = node
        while here is not None:
            yield here
            here = self._parents.get(here)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        return self._parents.get(node)

    def enclosing(self, node: cst.CSTNode, kind: type | tuple[type, ...]) -> Any:
        return next((n for n in self.above(node) if n is not node and isinstance(n, kind)), None)

    def line(self, node: cst.CSTNode) -> int:
        return int(self._ranges[node].start.line)

    def column(self, node: cst.CSTNode) -> int:
        return int(self._ranges[node].start.column)

    def end_line(self, node: cst.CSTNode) -> int:
        return int(self._ranges[node].end.line)

    def code(self, node: cst.CSTNode) -> str:
        """Its text, without parentheses around it."""
        start, end = self._offsets(node)
        return self.text[start:end]

    def statement(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The small statement a node stands in, or the compound statement whose head it stands in."""
        kinds = (cst.BaseSmallStatement, cst.BaseCompoundStatement)
        return next((n for n in self.above(node) if isinstance(n, kinds)), None)

    # ------------------------------------------------------------------ editing
    def replace(self, node: cst.CSTNode, new: str) -> None:
        """`new` in place of an expression, in parentheses where the place needs them."""
        start, end = self._offsets(node)
        expression = cst.parse_expression(new)
        closed = bool(getattr(expression, "lpar", ()))
        fits = closed or isinstance(expression, cst.Tuple) or tightness(expression) >= self._room(node)
        self._add(start, end, new if fits else f"({new})")

    def scale(self, node: cst.CSTNode, before: str = "", after: str = "") -> None:
        """`before` and `after` ("2 * ", " / len(x)") around an expression."""
        start, end = self._offsets(node)
        opened, closed = ("(", ")") if tightness(node) < PRODUCT else ("", "")
        if getattr(node, "lpar", ()):  # inside the parentheses it already has
            pass
        elif self._room(node) > PRODUCT and not (before == "" and self._last_factor(node)):
            before, after = "(" + before, after + ")"
        self._add(start, start, before + opened)
        self._add(end, end, closed + after)

    def _last_factor(self, node: cst.CSTNode) -> bool:
        """`x` of `2 * x`: what is put behind it applies to the whole product."""
        above = self.parent(node)
        product = isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Multiply)
        return product and above.right is node  # type: ignore[union-attr]

    def comment(self, node: cst.CSTNode, text: str) -> None:
        """A comment at the end of the line a node ends on, where there is none yet and it fits."""
        line = self._lines[self.end_line(node) - 1]
        bare = line.rstrip()
        if "#" not in line and len(bare) + len(text) < WIDEST:
            end = self._starts[self.end_line(node) - 1] + len(bare)
            self._add(end, end, f"  # {text}")

    def insert_before(self, node: cst.CSTNode, new: str) -> None:
        """A statement of its own line before the statement `node` stands in."""
        outer = self._whole(node)
        small = self._of_several(node, outer)
        if small is not None and small is not outer.body[0]:  # type: ignore[attr-defined]
            self._add(self._offsets(small)[0], self._offsets(small)[0], f"{_in_line(new)}; ")
            return
        start, _ = self._offsets(outer)
        begin = self._starts[self.line(outer) - 1]
        indent = self.text[begin:start]
        if indent.strip():  # `for ...: a; b` on one line
            self._add(start, start, "; ".join(new.splitlines()) + "; ")
            return
        self._add(begin, begin, "".join(f"{indent}{line}{self.newline}" for line in new.splitlines()))

    def insert_after(self, node: cst.CSTNode, new: str) -> None:
        """A statement of its own line behind the statement `node` stands in."""
        outer = self._whole(node)
        small = self._of_several(node, outer)
        if small is not None and small is not outer.body[-1]:  # type: ignore[attr-defined]
            self._add(self._offsets(small)[1], self._offsets(small)[1], f"; {_in_line(new)}")
            return
        start, end = self._offsets(outer)
        begin = self._starts[self.line(outer) - 1]
        indent = self.text[begin:start]
        if indent.strip():
            self._add(end, end, "; " + "; ".join(new.splitlines()))
            return
        where = self._ranges[outer].end
        block = isinstance(outer, cst.BaseCompoundStatement) and where.column == 0  # it ends where the next line begins
        behind = self._starts[where.line - 1 if block else where.line]
        newline = "" if behind and self.text[behind - 1] == "\n" else self.newline
        self._add(behind, behind, newline + "".join(f"{indent}{line}{self.newline}" for line in new.splitlines()))

    def insert_first(self, function: cst.CSTNode, new: str) -> None:
        """A statement at the beginning of a function, behind its docstring."""
        body = getattr(getattr(function, "body", None), "body", ())
        if not body:
            raise NoEdit("the function has no block of its own", new)
        first = body[0]
        has_docstring = isinstance(function, cst.FunctionDef) and function.get_docstring() is not None
        (self.insert_after if has_docstring else self.insert_before)(first, new)

    def remove(self, statement: cst.CSTNode) -> None:
        """A small statement, and its line if nothing else stands there."""
        outer = self.parent(statement)
        start, end = self._offsets(statement)
        siblings = getattr(outer, "body", ())
        block = getattr(self.parent(outer) if outer is not None else None, "body", ())
        if len(siblings) > 1:
            while end < len(self.text) and self.text[end] in " ;":
                end += 1
            self._add(start, end, "")
        elif len(block) == 1 or not isinstance(outer, cst.SimpleStatementLine):
            self._add(start, end, "pass")
        else:
            line = self.line(statement)
            self._add(self._starts[line - 1], self._starts[int(self._ranges[statement].end.line)], "")

    def remove_line(self, node: cst.CSTNode) -> None:
        """The whole lines a node stands on."""
        self._add(self._starts[self.line(node) - 1], self._starts[self.end_line(node)], "")

    def replace_token(self, node: cst.CSTNode, new: str) -> None:
        """A sign of arithmetic; the spaces around it stay."""
        start, end = self._offsets(node)
        old = self.text[start:end]
        begin = start + len(old) - len(old.lstrip())
        self._add(begin, begin + len(old.strip()), new)

    def cut(self, start: cst.CSTNode, end: cst.CSTNode, new: str = "") -> None:
        """Replaces the text from the end of `start` to the end of `end`."""
        self._add(self._offsets(start)[1], self._offsets(end)[1], new)

    def splice(self, start: int, end: int, new: str) -> None:
        self._add(start, end, new)

    def offsets(self, node: cst.CSTNode) -> tuple[int, int]:
        return self._offsets(node)

    @property
    def edited(self) -> bool:
        return bool(self._edits)

    def result(self) -> str:
        """The edited text.

        Raises:
            NoEdit: nothing was changed, or what came out is no Python.
        """
        text, last = [], 0
        for start, end, _, new in sorted(self._edits):
            text += [self.text[last:start], new]
            last = end
        edited = "".join(text) + self.text[last:]
        if edited == self.text:
            raise NoEdit("it says so already")
        try:
            compile(edited, self.path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise NoEdit("the edit does not fit into what stands around it") from error
        return edited

    def _add(self, start: int, end: int, new: str) -> None:
        for s, e, _, text in self._edits:
            if (s, e, text) == (start, end, new) and start != end:
                return
            if start < e and s < end:
                raise NoEdit("two edits meet at one place")
        self._edits.append((start, end, len(self._edits), new))

    def _of_several(self, node: cst.CSTNode, line: cst.CSTNode) -> cst.CSTNode | None:
        """The small statement a node stands in, where others stand on its line: `a; b; c`."""
        if not isinstance(line, cst.SimpleStatementLine) or len(line.body) < 2:
            return None
        return next((s for s in line.body if self.inside(node, s)), None)

    def _whole(self, node: cst.CSTNode) -> cst.CSTNode:
        kinds = (cst.SimpleStatementLine, cst.BaseCompoundStatement)
        small = next((n for n in self.above(node) if isinstance(n, cst.BaseSmallStatement)), None)
        line = next((n for n in self.above(node) if isinstance(n, kinds)), None)
        if small is not None and isinstance(self.parent(small), cst.SimpleStatementSuite):
            return small
        if line is None:
            raise NoEdit("no statement stands there")
        return line

    def _offsets(self, node: cst.CSTNode) -> tuple[int, int]:
        where: CodeRange = self._ranges[node]
        start = self._starts[where.start.line - 1] + where.start.column
        end = self._starts[where.end.line - 1] + where.end.column
        return start, end

    def _room(self, node: cst.CSTNode) -> int:
        """How tightly an expression must hold together to stand where `node` stands without parentheses."""
        above = self.parent(node)
        if getattr(node, "lpar", ()):
            return 0
        if isinstance(above, cst.BinaryOperation):
            mine = tightness(above)
            if isinstance(above.operator, cst.Power):
                return ATOM if above.left is node else UNARY
            return mine if above.left is node else mine + 1
        if isinstance(above, cst.Attribute | cst.Subscript):
            return ATOM if above.value is node else 0
        if isinstance(above, cst.Call):
            return ATOM if above.func is node else 0
        return UNARY if isinstance(above, cst.UnaryOperation) else 0


def _in_line(statements: str) -> str:
    """Statements for the middle of a line, without comments."""
    return "; ".join(line.partition("  #")[0] for line in statements.splitlines())


LOOSE, SUM, PRODUCT, UNARY, POWER, ATOM = range(6)


def tightness(node: cst.CSTNode) -> int:
    """How tightly an expression holds together, parentheses around it not counted."""
    if isinstance(node, _LOOSE):
        return LOOSE
    if isinstance(node, cst.UnaryOperation):
        return UNARY
    if isinstance(node, cst.BinaryOperation):
        if isinstance(node.operator, _SUMS):
            return SUM
        return POWER if isinstance(node.operator, cst.Power) else PRODUCT
    return ATOM


def dotted(node: cst.CSTNode) -> str:
    """`a.b.c` of a name or an attribute; "" for anything else."""
    if isinstance(node, cst.Name):
        return str(node.value)
    if isinstance(node, cst.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr.value}" if left else ""
    return ""


def name_called(call: cst.Call) -> str:
    """`log_prob` of `self.prior().log_prob(z)`; `f` of `f(x)`."""
    return str(call.func.attr.value) if isinstance(call.func, cst.Attribute) else dotted(call.func)


def read(path: str) -> str:
    """The text of a file with its own line ends."""
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
        return file.read()


def unified(path: str, old: str, new: str) -> str:
    """A diff in the form of `git diff`; `path` relative to where it will be applied."""
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
