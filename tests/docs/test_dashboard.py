"""docs/dashboard.md: what it shows works as it stands, and what it names exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from tests.docs.pages import REPOSITORY, block
from tests.docs.test_workers import options_of
from tests.integration.dashboard_client import visiting

if TYPE_CHECKING:
    import pytest

PAGE = "docs/dashboard.md"
TEXT = (REPOSITORY / PAGE).read_text()


async def test_the_example(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from procrastinate_deps import App, PsycopgConnector

    names: dict[str, object] = {}
    exec(block(PAGE, "python"), names)
    app, site = names["app"], names["site"]
    assert isinstance(app, App)
    assert isinstance(site, Starlette)
    with app.replace_connector(PsycopgConnector(conninfo=dsn)):
        async with app.open_async(), visiting(site, "https://jobs.example", root="/intern/jobs") as visitor:
            await app.configure_task("log_in").defer_async(password="p", access_token="t")
            assert (await visitor.get("/jobs")).status_code == 403
            page = await visitor.get("/jobs", **{"x-user": "ada"})
            assert page.status_code == 200
            assert page.text.count("(hidden)") == 2
            assert "Select all jobs" in page.text


def test_every_option_and_variable_exists() -> None:
    options = options_of("dashboard")
    shown = dict(re.findall(r"^\| `(--[a-z-]+)`(?:, `-p`)? \| `([A-Z_]+)` \|", TEXT, re.MULTILINE))
    assert {flag: options[flag] for flag in shown} == shown
    assert set(shown) == {flag for flag in options if flag.startswith("--")} - {
        "--help", "--app", "--schema", "--log-level", "--log-format",
    }  # fmt: skip


def test_the_screenshots_are_there() -> None:
    pictures = re.findall(r"\]\((screenshots/[^)]+)\)", TEXT)
    assert pictures
    assert all((REPOSITORY / "docs" / picture).stat().st_size > 10_000 for picture in pictures)
