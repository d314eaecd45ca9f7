"""Python objects found by their dotted path."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, TypeVar

from procrastinate_deps.exceptions import LoadFromPathError

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


def load_from_path(path: str, expected: type[T]) -> T:
    """The object at `path` ("package.module.name"), which must be an instance of `expected`."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise LoadFromPathError(f"{path!r} is not a dotted path to {_an(expected)}; write it as package.module.name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise LoadFromPathError(f"{path!r}: module {module_name!r} can't be imported: {error}") from error
    try:
        found = getattr(module, name)
    except AttributeError:
        raise LoadFromPathError(f"{path!r}: module {module_name!r} has no {name!r}") from None
    if not isinstance(found, expected):
        raise LoadFromPathError(f"{path!r} is not {_an(expected)} but {found!r}")
    return found


def _an(expected: type) -> str:
    name = expected.__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def import_all(paths: Iterable[str]) -> None:
    for path in paths:
        importlib.import_module(path)
