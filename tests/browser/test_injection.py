"""Names, arguments and errors that pretend to be markup."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
import pytest
from playwright.sync_api import expect

from procrastinate_deps.jobs import JobSpec
from tests.browser.conftest import Tab, process, work_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps import App

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_nothing_of_it_becomes_markup(
    app: App, environment: dict[str, str], tab: Tab, stack: contextlib.ExitStack
) -> None:
    from tests.browser.shop import EVIL

    evil = app.tasks[EVIL]
    failed = evil.configure(lock=EVIL, queueing_lock=EVIL).defer(**{EVIL: EVIL, "fails": True})
    evil.defer(**{EVIL: [EVIL, {EVIL: EVIL}]})
    node = EVIL[:200]
    with app.workflow(EVIL, metadata={EVIL: EVIL}) as workflow:
        first = workflow.add(evil.configure(node=node), fails=True)
        workflow.add(evil.configure(node=node + "2", depends_on=first, run_when="all_succeeded"))
    work_off(environment)
    waiting = evil.configure(lock=EVIL, queue="x" + EVIL).defer()
    running = evil.configure(queue="runs").defer(goes_on=True)
    progress = "SELECT count(*) FROM procrastinate_deps.job_progress WHERE message = %s"
    words = ("worker", "runs", "--name", EVIL[:60], "--shutdown-graceful-timeout", "0")
    worked_on = stack.enter_context(process(environment, *words))
    with psycopg.connect(environment["PROCRASTINATE_DEPS_DSN"], autocommit=True) as connection:
        connection.execute("LISTEN procrastinate_deps")
        while connection.execute(progress, [EVIL]).fetchone() == (0,):
            assert worked_on.poll() is None
            next(connection.notifies(timeout=0.1), None)
    app.job_manager.pause_queue(EVIL)
    app.job_manager.defer_jobs([JobSpec(task_name=EVIL)])
    paths = [
        "/",
        "/jobs",
        f"/jobs/{failed}",
        f"/jobs/{running}",
        "/jobs/2",
        f"/jobs/{first.job_id}",
        f"/jobs/{waiting}",
        "/workflows",
    ]
    paths += [f"/workflows/{workflow.id}", f"/workflows/{workflow.id}#time", "/queues", "/workers", "/periodic"]
    paths += [
        "/jobs?queue=%3Cimg%20src=x%20onerror=alert(1)%3E",
        "/jobs?argument=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
    ]
    paths += ["/jobs?status=%3Cscript%3Ealert(1)%3C/script%3E", "/workflows?name=%3Csvg/onload=alert(1)%3E"]
    for path in paths:
        page = tab.open(path)
        if page.locator("[data-graph]").count():
            page.locator("[data-graph][data-graph-ready]").wait_for()
            page.locator("[data-node]").first.hover()
            page.get_by_label("Find a job").fill(EVIL)
        assert page.locator("img, main script, [onerror], [onload]").count() == 0, path
        assert "49" not in page.locator("h1").first.inner_text()
    tab.complaints[:] = [each for each in tab.complaints if "400 (Bad Request)" not in each]
    page = tab.open(f"/jobs/{running}")
    expect(page.get_by_text("1 of 4 <img src=x")).to_be_visible()
    page = tab.open("/workers")
    expect(page.locator("tr", has_text="<img src=x")).to_contain_text("alive")
    page = tab.open(f"/jobs/{failed}")
    expect(page.locator("#error-text")).to_contain_text(EVIL)
    expect(page.locator("#arguments-text")).to_contain_text("<img src=x onerror=")
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.locator(".toast")).to_contain_text("1 job retried")
    page = tab.open("/queues")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("dialog")).to_contain_text(EVIL)
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator(".toast")).to_contain_text(EVIL)


def test_the_policy_of_the_page_is_kept_by_the_browser(tab: Tab) -> None:
    """What would be injected would not run: that the checks above can fail is seen here."""
    page = tab.open("/workers")
    refused = "Content Security Policy"
    picture = "<img src='/static/icon.svg' onload='alert(1)'>"
    with page.expect_console_message(lambda message: refused in message.text):
        page.evaluate("picture => document.body.insertAdjacentHTML('beforeend', picture)", picture)
    script = "document.head.append(Object.assign(document.createElement('script'), {textContent: 'alert(2)'}))"
    with page.expect_console_message(lambda message: refused in message.text):
        page.evaluate(script)
    assert not any(each.startswith("dialog") for each in tab.complaints)
    assert len(tab.complaints) >= 2
    tab.complaints.clear()
