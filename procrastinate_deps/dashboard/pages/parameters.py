"""What stands in a page's address."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from procrastinate_deps.dashboard.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request

T = TypeVar("T")

MAX_ID = 2**63 - 1
MAX_TRAIL = 20


def text(request: Request, name: str) -> str | None:
    """A parameter; None where it is missing or empty."""
    given = request.query_params.get(name, "").strip()
    if "\0" in given:
        raise Problem(400, "Not an address of this page", f"{name} holds a character that no text of the database has.")
    return given or None


def is_id(given: str) -> bool:
    """Whether a text is a number that an id may have. Its length is looked at first: int() refuses very long ones."""
    return given.isascii() and given.isdigit() and len(given) <= 19 and int(given) <= MAX_ID


def number(request: Request, name: str) -> int | None:
    """An id, or None."""
    given = text(request, name)
    if given is None:
        return None
    if not is_id(given):
        raise Problem(400, "Not an address of this page", f"{name}={given!r}: give a whole number.")
    return int(given)


def path_id(request: Request, name: str) -> int:
    """The id in the path."""
    given: str = request.path_params[name]
    if not is_id(given):
        raise Problem(404, "There is no such page")
    return int(given)


def trail(request: Request) -> list[int]:
    """Where the newer pages began that the visitor has come through, the newest first: the way back."""
    given = (text(request, "trail") or "").split(".")
    return [int(each) for each in given if is_id(each)][-MAX_TRAIL:]


def choice(request: Request, name: str, make: Callable[[str], T], known: Collection[str]) -> T | None:
    """One of a few words, or None."""
    given = text(request, name)
    if given is None:
        return None
    if given not in known:
        raise Problem(400, "Not an address of this page", f"{name}={given!r}: give one of {', '.join(known)}.")
    return make(given)
