"""Why does this VAE not generate?

Names are resolved on first use (PEP 562), so `import whyvae` and `whyvae --help` load no torch.
`watch` and `examine` are rooms of the house and functions people call: so the modules are callable.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from whyvae.api import assert_healthy, run
    from whyvae.api import examine_model as examine
    from whyvae.estimator import VAE
    from whyvae.report import Report
    from whyvae.watch.watcher import watch

__all__ = ["VAE", "Report", "__version__", "assert_healthy", "examine", "run", "watch"]

_LAZY = {
    "Report": "whyvae.report",
    "VAE": "whyvae.estimator",
    "assert_healthy": "whyvae.api",
    "run": "whyvae.api",
}
_CALLABLE = {
    "examine": ("whyvae.api", "examine_model"),
    "watch": ("whyvae.watch.watcher", "watch"),
}


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, function = _CALLABLE[self.__name__.rpartition(".")[2]]
        return getattr(import_module(module), function)(*args, **kwargs)


class _Package(ModuleType):
    """Importing a submodule binds it here, over a function of that name: make it callable then."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _CALLABLE and type(value) is ModuleType:
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _CALLABLE:
        return import_module(f"whyvae.{name}")
    raise AttributeError(f"module 'whyvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
