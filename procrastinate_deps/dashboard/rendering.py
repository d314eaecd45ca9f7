"""From data to HTML: the templates, and how times, durations and values are written."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup
from starlette.responses import HTMLResponse

from procrastinate_deps import __version__
from procrastinate_deps.dashboard import shortening
from procrastinate_deps.dashboard.encoding import plain
from procrastinate_deps.dashboard.security import csrf_token, path_within, root_path, set_csrf_cookie
from procrastinate_deps.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

HERE = Path(__file__).parent
THEME_COOKIE = "procrastinate_deps_theme"
STATUSES = [status.value for status in Status]

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Templates:
    """Renders the pages."""

    def __init__(self, title: str) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "breakable": breakable,
            "duration": duration,
            "when": when,
            "number": number,
            "compact": compact,
            "short_json": short_json,
            "pretty": shortening.pretty,
            "shortened": shortening.error,
            "size": size,
        }
        self._environment.globals |= {
            "title": title,
            "version": __version__,
            "static_version": static_version(),
            "statuses": STATUSES,
            "utc_now": lambda: datetime.now(UTC),
        }

    def render(self, request: Request, name: str, status: int = 200, **data: Any) -> Response:
        root = root_path(request)

        def url(path: str, /, **query: Any) -> str:
            given = {key: value for key, value in query.items() if value not in (None, "")}
            return root + path + (f"?{urlencode(given)}" if given else "")

        def here(**changes: Any) -> str:
            """This page with other filters."""
            given = {**request.query_params, **{key: None if v is None else str(v) for key, v in changes.items()}}
            return url(path_within(request), **given)

        def twin() -> str:
            """The same in JSON."""
            path = path_within(request)
            return url(f"/api{path if path != '/' else '/overview'}", **request.query_params)

        theme = request.cookies.get(THEME_COOKIE, "")
        html = self._environment.get_template(f"{name}.html").render(
            **data,
            url=url,
            here=here,
            twin=twin,
            page=name,
            path=path_within(request),
            theme=theme if theme in ("light", "dark") else "",
            csrf=csrf_token(request),
        )
        # What an argument holds may be half a character.
        response = HTMLResponse(html.encode(errors="replace"), status)
        set_csrf_cookie(request, response)
        return response


@lru_cache(maxsize=1)
def static_names() -> frozenset[str]:
    """The files that are served."""
    return frozenset(file.name for file in (HERE / "static").iterdir() if file.is_file())


@lru_cache(maxsize=1)
def static_version() -> str:
    """Changes when a static file does: with it in their addresses they can be kept by browsers."""
    digest = hashlib.sha256()
    for file in sorted((HERE / "static").iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def duration(seconds: float | None) -> str:
    """As "840 ms", "3.2 s", "4 min 12 s", "2 d 3 h"."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00095 else ("0 s" if seconds == 0 else "< 1 ms")
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for (unit_s, unit), (smaller_s, smaller) in itertools.pairwise(_UNITS):
        if whole >= unit_s:
            rest = whole % unit_s // smaller_s
            return f"{whole // unit_s} {unit} {rest} {smaller}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def when(moment: datetime | None, missing: str = "–") -> str:
    """A time as how long ago it was; the page goes on counting, and shows the exact one on demand."""
    if moment is None:
        return missing
    distance = (datetime.now(UTC) - moment).total_seconds()
    size_text = ago(abs(distance))
    text = "now" if size_text == "0 s" else (f"{size_text} ago" if distance >= 0 else f"in {size_text}")
    exact = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), exact, text)


def ago(seconds: float) -> str:
    """In one unit."""
    for unit_s, unit in _UNITS:
        if seconds >= unit_s:
            return f"{seconds // unit_s:.0f} {unit}"
    return "0 s"


def breakable(name: str) -> Markup:
    """A name that a narrow page breaks after its dots and underlines."""
    return Markup("<wbr>").join(re.findall(r"[^._]*[._]|[^._]+", name))


def number(value: float) -> str:
    """With thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def compact(value: float) -> str:
    """As "12.3k", "4.8M"."""
    for size_of, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if value >= size_of:
            return f"{value / size_of:.3g}{unit}" if value < 1000 * size_of else f"{value / size_of:.0f}{unit}"
    return f"{value:.0f}"


def size(count: int) -> str:
    return f"{count} B" if count < 1000 else f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"


def short_json(value: Mapping[str, Any] | None, limit: int = 120) -> str:
    """Arguments on one line."""
    if value is None:
        return ""
    text = ", ".join(f"{name}={json.dumps(plain(inner), ensure_ascii=False)}" for name, inner in value.items())
    return text if len(text) <= limit else text[: limit - 1] + "…"
