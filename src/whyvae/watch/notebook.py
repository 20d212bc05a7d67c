"""A Jupyter notebook as a script: its code cells, one after the other, each a file of its own by the name `nb.ipynb[cell 3]`."""

from __future__ import annotations

import json
import linecache
import os
import re
from pathlib import Path
from types import CodeType

SUFFIX = ".ipynb"
_HARMLESS = {"time", "timeit", "capture", "prun"}  # cell magics that run the cell as it is
_MAGIC = re.compile(r"^(\s*)[%!?].*$", re.MULTILINE)


class NotANotebook(ValueError):
    """One line for the user."""


def cells(path: str) -> list[CodeType]:
    """The code cells, compiled; the lines of each are known to tracebacks and reports.

    Lines of IPython's (`%matplotlib inline`, `!pip install`) and cells in other languages (`%%bash`) are left out.

    Raises:
        NotANotebook: it is none, or a cell is not Python.
    """
    return [_compiled(text, f"{path}[cell {i}]") for i, text in enumerate(_texts(path), 1)]


def _texts(path: str) -> list[str]:
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
        every = [c["source"] for c in held["cells"] if c["cell_type"] == "code"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise NotANotebook(f"{path} is no notebook of format 4") from error
    return [_python("".join(source)) for source in every]


def _python(text: str) -> str:
    """The cell without what is IPython's; its lines stay where they are."""
    first, _, rest = text.partition("\n")
    if first.startswith("%%"):
        return f"\n{_python(rest)}" if first[2:].split(" ")[0] in _HARMLESS else ""
    try:
        compile(text, "cell", "exec", dont_inherit=True)
    except SyntaxError:
        return _MAGIC.sub(r"\1pass", text)
    return text


def _compiled(text: str, name: str) -> CodeType:
    for known in (name, os.path.relpath(name)):  # of no time: such lines are kept
        linecache.cache[known] = len(text), None, text.splitlines(keepends=True), known
    try:
        return compile(text, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise NotANotebook(f"{name}:{error.lineno} is not Python: {error.msg}") from error
