"""Makes the pictures in docs/screenshots: `python docs/make_screenshots.py`, with chromium and the extras of [dev].

It fills a database on the embedded server with the shop of docs/shown.py, and has a worker run while it looks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import psycopg
from playwright.sync_api import ViewportSize, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from docs import shown  # noqa: E402
from procrastinate_deps import AsyncpgConnector, embedded  # noqa: E402
from procrastinate_deps.durations import histogram  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

SIZE: ViewportSize = {"width": 1360, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
THEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def main() -> None:
    """Fill, look, store."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed (Debian: apt-get install chromium)")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # the server's account, where root starts it, has to get in
        folder.chmod(0o755)
        dsn = stack.enter_context(embedded.EmbeddedServer(folder / "server"))
        environment = os.environ | {
            "PYTHONPATH": str(HERE.parent),
            "PROCRASTINATE_DEPS_DSN": dsn,
            "PROCRASTINATE_DEPS_APP": "docs.shown.app",
        }
        subprocess.run([sys.executable, "-m", "procrastinate_deps", "migrate"], env=environment, check=True)
        workflows = anyio.run(fill, dsn)
        with (
            running(environment, "worker", "-q", "money,etl,warehouse", "-c", "6", "-n", "alpha"),
            running(environment, "dashboard", "--port", "0", "--allow-actions") as address,
        ):
            look(chromium, address, workflows)


@contextlib.contextmanager
def running(environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """Another process; the last word of what it says first is an address, if it is the dashboard."""
    output = subprocess.PIPE if "dashboard" in arguments else subprocess.DEVNULL
    command = [sys.executable, "-m", "procrastinate_deps", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().split()[-1] if process.stdout else ""
    finally:
        process.terminate()
        process.wait(30)


async def fill(dsn: str) -> dict[str, int]:
    """A day of history, a workflow that failed, one that runs, and queues with something in them."""
    app = shown.app
    with psycopg.connect(dsn, autocommit=True) as connection, app.replace_connector(AsyncpgConnector(dsn)):
        connection.cursor().executemany(
            "INSERT INTO procrastinate_deps.job_stats (minute, runs, run_sum, run_min, run_max, wait_sum, wait_min, "
            "wait_max, status, queue, task_name, run_histogram, wait_histogram) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (at, n, n * run, run / 2, run * 3, n * wait, wait / 9, wait * 4, status, queue, task,
                 histogram([run * (0.5 + 2.5 * i / n) for i in range(n)]),
                 histogram([wait * (0.1 + 3.9 * i / n) for i in range(n)]))
                for at, n, run, wait, status, queue, task in shown.history(shown.now())
            ],
        )  # fmt: skip
        async with app.open_async():
            for order in range(1, 40):
                paid = await shown.charge.configure(priority=order % 3).defer_async(order=order, card="4111")
                sent = await shown.ship.configure(depends_on=[paid]).defer_async(order=order)
                await shown.send_mail.configure(depends_on=[sent]).defer_async(
                    to=f"c{order}@example.com", template="sent"
                )
            failed = await shown.nightly("nightly etl", sources=("orders", "legacy", *shown.SOURCES[2:]), slow=0.4)
            report = await shown.wide("monthly report", 40, 4)
            await app.run_worker_async(wait=False, concurrency=10)
            for hours in range(1, 20):
                await shown.charge.configure(schedule_in={"hours": hours}).defer_async(order=99 + hours)
            for order in range(25):
                await shown.send_mail.defer_async(to=f"c{order}@example.com", template="newsletter")
            await app.job_manager.pause_queue_async("mails")
            live = await shown.nightly("nightly etl", slow=8)
    return {"failed": failed, "report": report, "live": live}


def look(chromium: str, address: str, workflows: dict[str, int]) -> None:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for theme in THEMES:
            context = browser.new_context(viewport=SIZE, color_scheme=theme)
            page = context.new_page()
            # halfway through the workflow
            page.goto(f"{address}/workflows/{workflows['live']}")
            page.locator(".node.st-doing[aria-label^='join'], .node.st-doing[aria-label^='load']").first.wait_for()
            store(page, f"live-{theme}")
            for name, path in (
                ("overview", "/"),
                ("jobs", "/jobs"),
                ("workflow", f"/workflows/{workflows['failed']}"),
                ("timeline", f"/workflows/{workflows['failed']}#time"),
                ("queues", "/queues"),
            ):
                page.goto("about:blank")
                page.goto(address + path)
                store(page, f"{name}-{theme}")
            context.close()
        context = browser.new_context(viewport=PHONE, color_scheme="light", is_mobile=True)
        page = context.new_page()
        page.goto(address)
        store(page, "phone")
        browser.close()


def store(page: Page, name: str) -> None:
    page.locator("body[data-ready]").wait_for()
    if page.locator("[data-graph]").count():
        page.locator("[data-graph][data-graph-ready]").wait_for()
    page.screenshot(path=HERE / "screenshots" / f"{name}.png")


if __name__ == "__main__":
    main()
