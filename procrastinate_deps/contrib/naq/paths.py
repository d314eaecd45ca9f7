"""The names by which functions and exceptions travel: the module, and the name in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from procrastinate_deps.exceptions import FunctionPathError

_MAIN = "__main__"


def function_path(func: Any) -> str:
    """The dotted path by which a worker knows the function.

    Raises FunctionPathError for one that no worker could find in a module: a lambda, a method, a function inside of
    another one, or one that was typed into an interpreter.
    """
    if not callable(func):
        raise TypeError(f"enqueue takes the function to run first; got {func!r}")
    if isinstance(func, type):
        raise FunctionPathError(
            f"{func.__module__}.{func.__qualname__} is a class: write a function that makes one of it"
        )
    name = getattr(func, "__qualname__", None)
    if not isinstance(name, str) or not isinstance(getattr(func, "__module__", None), str):
        raise FunctionPathError(f"{func!r} has no name by which a worker could find it: write a function, in a module")
    if "." in name or "<" in name:
        raise FunctionPathError(
            f"{func.__module__}.{name} can't be enqueued: a worker finds only functions at the top level of a module"
        )
    return class_path(func)


def class_path(named: Any) -> str:
    """The dotted path of a class, or of anything else with a module and a qualified name."""
    return f"{_module_of(named)}.{named.__qualname__}"


def _module_of(named: Any) -> str:
    module: str = named.__module__
    if module != _MAIN:
        return module
    # The module that Python was started with: a worker imports the same file by its own name.
    main = sys.modules[_MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        name: str = spec.name
        return name
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).stem.isidentifier():
        raise FunctionPathError(
            f"{named.__qualname__} is defined in {file or 'an interpreter'}, which no worker can import: "
            "move it to a module, and list that module for the worker"
        )
    return Path(file).stem
