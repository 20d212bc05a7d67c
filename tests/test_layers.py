"""The import arrows: each room may import rooms before it in this list, never after."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
ROOMS = [
    {"", "verdict", "pages"},  # "" is the package itself: lazy, and __version__
    {"score", "features", "distances", "disentangle"},  # numbers about rows: they know no model
    {"plot"},  # arrays in, pictures out
    {"cluster"},  # calls on other machines
    {"data"},
    {"models"},  # of our own; a stranger can lift one file
    {"watch", "subject"},
    {"audit", "testing"},  # testing: patients for specimens, trained under the watcher
    {"probe", "probes"},
    {"rule", "rules"},
    {"record", "confidence"},
    {"examine"},
    {"report"},
    {"api"},
    {"treat"},
    {"training"},  # what the loop of `train` is made of
    {"train"},
    {"sampling", "pictures", "estimator", "marginal"},
    {"evaluation"},
    {"gallery"},  # what pictures need of a VAE
    {"tuning"},  # what `tune` is made of
    {"tune"},
    {"reference"},  # our own VAE, trained and examined
    {"demo", "command_run", "train_options"},
    {"command_train", "command_fix", "command_tune"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
# Inside functions the public names may be called from below: watcher.examine() returns a report.
UPWARD = {"api"}
NO_TORCH = (
    "plot",
    "record",
    "confidence",
    "verdict",
    "pages",
    "report",
    "cli",
    "command_run",
    "command_train",
    "command_tune",
    "train_options",
    "demo",
)
RENDERERS = {"rich", "whyvae.report"}
FILES = sorted((SRC / "whyvae").rglob("*.py"))


def module_name(path):
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module):
    return module.removeprefix("whyvae").strip(".").partition(".")[0]


def imports(tree, module, path):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if path.name == "__init__.py" else module.rpartition(".")[0]
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base]).strip(".")
            # `from whyvae import pages` is a module, `from whyvae import __version__` is not
            yield from (
                f"whyvae.{alias.name}" if base == "whyvae" and alias.name in RANK else base for alias in node.names
            )


def parsed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = module_name(path)
    return module, tree, set(imports(tree, module, path))


def local_imports(tree, module, path):
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {name for function in functions for name in imports(function, module, path)}


def back_arrows(module, all_imports, local):
    """What `module` imports although it stands before it."""
    for name in all_imports:
        ours = name == "whyvae" or name.startswith("whyvae.")
        allowed = name in local and room(name) in UPWARD
        if ours and not allowed and RANK[room(name)] > RANK[room(module)]:
            yield name


def ids(path):
    return module_name(path)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_arrows_point_one_way(path):
    module, tree, names = parsed(path)
    assert room(module) in RANK, f"{module} is in no room: give it a place in ROOMS"
    if module == "whyvae":  # its imports are for type checkers: the names are lazy
        return
    assert not list(back_arrows(module, names, local_imports(tree, module, path)))


@pytest.mark.parametrize("path", [p for p in FILES if room(module_name(p)) in NO_TORCH], ids=ids)
def test_imports_no_torch(path):
    _, _, names = parsed(path)
    assert not {name for name in names if name.partition(".")[0] == "torch"}


@pytest.mark.parametrize("path", [p for p in FILES if room(module_name(p)) == "rules"], ids=ids)
def test_rules_render_nothing_and_train_nothing(path):
    _, _, names = parsed(path)
    assert not {name for name in names if name.startswith(tuple(RENDERERS))}
    assert not {name for name in names if name.startswith("torch.optim")}


def test_the_test_sees_a_back_arrow():
    tree = ast.parse("from whyvae.rules import x\nimport whyvae.verdict\nfrom ..report import y")
    names = set(imports(tree, "whyvae.watch.tape", Path("tape.py")))
    assert names == {"whyvae.rules", "whyvae.verdict", "whyvae.report"}
    assert set(back_arrows("whyvae.watch.tape", names, set())) == {"whyvae.rules", "whyvae.report"}


def names(folder, pattern, prefix=""):
    return {path.stem.removeprefix(prefix): path for path in folder.glob(pattern) if path.stem != "__init__"}


def rules_in(path):
    """Classes with a code: what a diagnosis is."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id == "Rule" for base in node.bases
        ):
            yield node.name


def test_a_diagnosis_is_a_rule_a_page_and_a_test_of_one_name():
    """The class is the name in capitals, so that code, page, file and test are found from one another."""
    rules = {name: path for name, path in names(SRC / "whyvae/rules", "*/*.py").items() if any(rules_in(path))}
    pages = names(SRC / "whyvae/rules", "*/*.md")
    tests = names(Path(__file__).parent / "rules", "test_*.py", "test_")
    assert rules.keys() == pages.keys() == tests.keys()
    assert {name for name in rules if rules[name].parent != pages[name].parent} == set()
    named = {name: [word.lower() for word in rules_in(path)] for name, path in rules.items()}
    assert named == {name: [name.replace("_", "")] for name in rules}
