"""Packages that import each of their names when it is first used, so that importing the package is quick.

A package states its names once, as imports for type checkers, and hands itself over:

    if TYPE_CHECKING:
        from .blur import Blur
    __getattr__, __dir__ = lazily(__name__)
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: its names are those that its `if TYPE_CHECKING:` block imports."""
    homes: dict[str, str] = {}

    def known() -> dict[str, str]:
        if not homes:
            homes.update(_stated(package))
        return homes

    def get(name: str) -> Any:
        if name.startswith("__") or name not in known():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(known()[name], package), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *known()})


def _stated(package: str) -> dict[str, str]:
    """The module of each name that the package imports for type checkers."""
    import ast  # imported here to keep `restill --help` fast

    loader: Any = sys.modules[package].__loader__
    found: dict[str, str] = {}
    for node in ast.parse(loader.get_source(package)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                found |= {alias.name: "." * line.level + (line.module or "") for alias in line.names}
    return found
