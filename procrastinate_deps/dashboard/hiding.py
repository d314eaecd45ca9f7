"""Arguments that nobody is to see here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procrastinate_deps.dashboard.settings import Hide

HIDDEN = "(hidden)"

MAX_DEPTH = 100
"""What is nested deeper is not shown where something is hidden."""

WORD_LENGTH = 4
"""A shorter value is taken out of a text where it stands by itself; a longer one within words too."""


class Hider:
    """Puts `HIDDEN` in the place of values, at any depth of a job's arguments and result, and in texts about the job.

    Parameters
    ----------
    rule:
        Patterns of names, in upper or lower case alike ("password", "*token*"), or a function that says of the task's
        name, the argument's name and its value whether to hide it.
    """

    def __init__(self, rule: Hide) -> None:
        self._hides: Callable[[str, str, Any], bool] = rule if callable(rule) else _by_patterns(rule)
        self.hides_something = callable(rule) or bool(rule)

    def __call__(self, task_name: str, value: Any, depth: int = 0) -> Any:
        if not self.hides_something:
            return value
        if isinstance(value, (Mapping, list)) and depth > MAX_DEPTH:
            return HIDDEN
        if isinstance(value, Mapping):
            return {
                name: HIDDEN if self._hides(task_name, str(name), inner) else self(task_name, inner, depth + 1)
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self(task_name, inner, depth + 1) for inner in value]
        return value

    def text(self, task_name: str, arguments: Any, text: str, whole: bool = True) -> str:
        """A text about a job (its error, a reason, a message), without the values of the arguments that are hidden.

        Parameters
        ----------
        arguments:
            The job's. None: they are not known here, so all of the text is hidden.
        whole:
            The text is not a piece of a longer one: a value could be cut through.
        """
        if not self.hides_something or not text:
            return text
        if arguments is None:
            return HIDDEN
        secrets = set(self._secrets(task_name, arguments))
        if secrets and not whole:
            return HIDDEN
        # The longest first: another one may be a part of it.
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= WORD_LENGTH:
                text = text.replace(secret, HIDDEN)
            else:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
        return text

    def texts(self, task_name: str, arguments: Any, value: Any) -> Any:
        """The same for all texts in a value of JSON."""
        match value:
            case str():
                return self.text(task_name, arguments, value)
            case list():
                return [self.texts(task_name, arguments, each) for each in value]
            case dict():
                return {name: self.texts(task_name, arguments, each) for name, each in value.items()}
        return value

    def _secrets(self, task_name: str, value: Any, depth: int = 0) -> Iterator[str]:
        if depth > MAX_DEPTH:
            return
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if self._hides(task_name, str(name), inner):
                    yield from _spellings(inner)
                else:
                    yield from self._secrets(task_name, inner, depth + 1)
        elif isinstance(value, list):
            for inner in value:
                yield from self._secrets(task_name, inner, depth + 1)


def _spellings(value: Any, depth: int = 0) -> Iterator[str]:
    """How a hidden value may stand in a text: as it is, as Python or JSON write it, and each of its lines."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value if depth <= MAX_DEPTH else ():
            yield from _spellings(inner, depth + 1)
    elif isinstance(value, str):
        lines = [line.strip() for line in value.splitlines()]
        for each in (value, value.strip(), *lines):
            if each:
                yield from (each, repr(each)[1:-1], json.dumps(each)[1:-1], json.dumps(each, ensure_ascii=False)[1:-1])
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _by_patterns(patterns: Any) -> Callable[[str, str, Any], bool]:
    if isinstance(patterns, str):
        raise TypeError(f"hide={patterns!r}: pass a list of patterns, as in hide=[{patterns!r}]")
    lowered = [pattern.lower() for pattern in patterns]

    def hides(task_name: str, name: str, value: Any) -> bool:
        return any(fnmatchcase(name.lower(), pattern) for pattern in lowered)

    return hides
