"""What is too long for a page: cut, and said so. The page's twin has all of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from procrastinate_deps.dashboard.encoding import plain

MAX_SHOWN = 100_000
"""Characters of an argument, a result or an error that a page shows."""

MAX_DEPTH = 60
"""Values that are nested deeper are shown without indentation."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A text as a page shows it, and how many characters were left out."""

    text: str
    left_out: int = 0


def error(text: str) -> Shown:
    """A traceback: its beginning, and more of its end, which says what it was."""
    if len(text) <= MAX_SHOWN:
        return Shown(text)
    first, last = text[: MAX_SHOWN // 5], text[-4 * MAX_SHOWN // 5 :]
    return Shown(f"{first}\n…\n{last}", len(text) - MAX_SHOWN)


def pretty(value: Any) -> Shown:
    """JSON, indented, with marks for colours."""
    made = plain(value)
    text = json.dumps(made, ensure_ascii=False)
    if len(text) > MAX_SHOWN:
        return Shown(text[:MAX_SHOWN] + "…", len(text) - MAX_SHOWN)
    if _depth(made) > MAX_DEPTH:
        return Shown(text)
    return Shown(_marked(made, ""))


def _depth(value: Any) -> int:
    """How deeply it is nested, looked at no further than it matters."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth


def _marked(value: Any, indent: str) -> Markup:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [
            Markup('{}<span class="j-key">{}</span>: {}').format(
                inner, json.dumps(name, ensure_ascii=False), _marked(each, inner)
            )
            for name, each in value.items()
        ]
        return Markup("{{\n{}\n{}}}").format(Markup(",\n").join(lines), indent)
    if isinstance(value, list) and value:
        return Markup("[\n{}\n{}]").format(
            Markup(",\n").join(Markup("{}{}").format(inner, _marked(each, inner)) for each in value), indent
        )
    kind = "str" if isinstance(value, str) else "num" if isinstance(value, (int, float)) else "lit"
    return Markup('<span class="j-{}">{}</span>').format(kind, escape(json.dumps(value, ensure_ascii=False)))
