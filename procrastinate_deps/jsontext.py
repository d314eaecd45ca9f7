"""Values as JSON text that PostgreSQL's jsonb takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from procrastinate_deps.exceptions import InvalidArguments

JsonDumps: TypeAlias = Callable[[Any], str]
JsonLoads: TypeAlias = Callable[[str], Any]

# NaN and Infinity are refused here because JSON has no words for them, and PostgreSQL refuses Python's.
encode: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
decode: JsonLoads = json.loads


def dumps_text(dumps: Callable[[Any], str | bytes]) -> JsonDumps:
    """`dumps` giving text: orjson's and msgspec's give bytes."""

    def dumps_to_text(value: Any) -> str:
        text = dumps(value)
        return text.decode() if isinstance(text, bytes) else text

    return dumps_to_text


def dump(value: Any, dumps: JsonDumps) -> str:
    """`value` as JSON text. Raises TypeError or ValueError for what JSON or PostgreSQL can't hold."""
    text = dumps(value)
    if "\\u0000" in text and _has_nul(json.loads(text)):
        raise ValueError("a text has a NUL character (\\x00), which PostgreSQL can't store")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"a text has half of a surrogate pair ({error.object[error.start]!a}), not a character"
            ) from None
    return text


def dump_arguments(task_name: str, arguments: Mapping[str, Any], dumps: JsonDumps) -> str:
    """A job's arguments as a JSON object. Raises InvalidArguments, which names the task and the argument."""
    if not isinstance(arguments, Mapping):
        raise InvalidArguments(f"task {task_name!r}: its arguments are not a mapping of names to values: {arguments!r}")
    for name in arguments:
        if not isinstance(name, str):
            raise InvalidArguments(f"task {task_name!r}: the argument name {name!r} is not a string")
    try:
        return dump(arguments if isinstance(arguments, dict) else dict(arguments), dumps)
    except (TypeError, ValueError, RecursionError) as error:
        for name, value in arguments.items():
            try:
                dump({name: value}, dumps)
            except (TypeError, ValueError, RecursionError) as its_error:
                message = f"task {task_name!r}: the argument {name!r} can't be stored as JSON: {its_error}"
                raise InvalidArguments(message) from its_error
        raise InvalidArguments(f"task {task_name!r}: its arguments can't be stored as JSON: {error}") from error


def storable_text(text: str) -> str:
    """`text` with what PostgreSQL can't store written as an escape: a traceback must never stop a job from ending."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(inner) for key, inner in value.items())
    return isinstance(value, list) and any(_has_nul(inner) for inner in value)
