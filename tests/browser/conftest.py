"""Debian's chromium, headless, at a dashboard that is a process of its own, on a database of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps import App

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEADLINE_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For no longer than a module: meanwhile playwright's event loop runs in this thread, and no async test can."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed (Debian: apt-get install chromium), and CI must test in it")
        pytest.skip("chromium is not installed: Debian's apt-get install chromium")
    # As root there is no sandbox to be had; each context is a profile that nobody has used.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def environment(dsn: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PROCRASTINATE"))}
    return kept | {
        "PYTHONPATH": str(REPOSITORY),
        "PROCRASTINATE_DEPS_DSN": dsn,
        "PROCRASTINATE_DEPS_APP": "tests.browser.shop.app",
    }


@pytest.fixture
def app(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The shop's, open, for code that is not async."""
    monkeypatch.setenv("PROCRASTINATE_DEPS_DSN", environment["PROCRASTINATE_DEPS_DSN"])
    for name in [name for name in sys.modules if name == "tests.browser.shop"]:
        monkeypatch.delitem(sys.modules, name)
    from tests.browser.shop import app

    with app.open():
        yield app


@pytest.fixture
def address(environment: dict[str, str]) -> Iterator[str]:
    """Of a dashboard that allows actions."""
    with process(environment, "dashboard", "--port", "0", "--allow-actions") as dashboard:
        assert dashboard.stdout is not None
        line = dashboard.stdout.readline()
        assert line.startswith("The dashboard is at "), line
        yield line.split()[-1]


@contextlib.contextmanager
def process(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", "procrastinate_deps", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield running
    finally:
        running.terminate()
        running.communicate(timeout=30)


@contextlib.contextmanager
def worker(environment: dict[str, str], *arguments: str) -> Iterator[None]:
    with process(environment, "worker", "--name", "tester", *arguments):
        yield


def work_off(environment: dict[str, str], *arguments: str) -> None:
    """Run what there is to run."""
    command = [
        sys.executable,
        "-m",
        "procrastinate_deps",
        "worker",
        "--one-shot",
        "--log-level",
        "critical",
        *arguments,
    ]
    subprocess.run(command, env=environment, check=True, timeout=60)


@dataclass
class Tab:
    """A page of the browser, and everything that it complained of."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        expect(self.page.locator("body")).to_have_attribute("data-ready", "yes")
        return self.page

    def complain(self, message: str) -> None:
        self.complaints.append(message)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complain(f"{message.type}: {message.text}")

    def refuse(self, dialog: Dialog) -> None:
        self.complain(f"dialog: {dialog.message}")
        dialog.dismiss()


@contextlib.contextmanager
def new_tab(browser: Browser, address: str, **options: Any) -> Iterator[Tab]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(DEADLINE_MS)
    expect.set_options(timeout=DEADLINE_MS)
    tab = Tab(context.new_page(), address)
    tab.page.on("console", tab.hear)
    tab.page.on("pageerror", lambda error: tab.complain(f"error: {error}"))
    tab.page.on("dialog", tab.refuse)
    try:
        yield tab
        assert tab.complaints == []
    finally:
        context.close()


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    with new_tab(browser, address) as tab:
        yield tab
