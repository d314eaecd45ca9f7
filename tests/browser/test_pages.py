"""The pages as people use them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Tab, new_tab, work_off, worker

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

    from procrastinate_deps import App


def scripts_run(page: Page, path: str) -> None:
    """Before they do, a button is answered by a page that asks, not by a dialog."""
    expect(page).to_have_url(re.compile(f"{path}$"))
    expect(page.locator("body")).to_have_attribute("data-ready", "yes")


def some_work(app: App, environment: dict[str, str]) -> tuple[int, int, int]:
    """A job that is paid, one that is declined, and one that waits for the gate."""
    pay = app.tasks["orders.pay"]
    with app.workflow("bills") as workflow:
        paid = workflow.add(pay.configure(node="first"), order=1)
        declined = workflow.add(pay.configure(node="second", depends_on=paid), order=13)
        workflow.add(pay.configure(node="third", depends_on=declined), order=3)
    work_off(environment, "money")
    waiting = pay.configure(depends_on=[app.tasks["orders.gate"].defer()]).defer(order=4)
    return paid.job_id, declined.job_id, waiting


def test_from_the_overview_to_the_error_of_a_job(app: App, environment: dict[str, str], tab: Tab) -> None:
    _, declined, _ = some_work(app, environment)
    page = tab.open("/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator(".tile.st-failed .tile-count")).to_have_text("1")
    page.get_by_role("link", name=re.compile("ValueError: order 13")).click()
    expect(page).to_have_url(f"{tab.address}/jobs/{declined}")
    expect(page.locator("#error-text")).to_contain_text("ValueError: order 13 was declined")
    expect(page.locator(".timeline li")).to_contain_text(["deferred", "ready", "started", "failed"])
    page.locator("[data-node].focus").wait_for()
    page.locator("[data-node]", has_text="third").click()
    expect(page.get_by_text("Why it was cancelled")).to_be_visible()
    page.get_by_role("link", name="bills").first.click()
    expect(page.get_by_role("heading", name="bills failed")).to_be_visible()


def test_filters_stand_in_the_address(app: App, environment: dict[str, str], tab: Tab) -> None:
    some_work(app, environment)
    page = tab.open("/jobs")
    page.get_by_role("link", name=re.compile(r"^\s*succeeded")).click()
    expect(page).to_have_url(f"{tab.address}/jobs?status=succeeded")
    page.get_by_label("Argument").fill("order=1")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile("status=succeeded.*argument=order%3D1"))
    expect(page.locator("tr[data-row]")).to_have_count(1)
    twin = page.get_by_role("link", name="This page as JSON").evaluate("link => link.href")
    assert page.request.get(twin).json()["filter"]["argument"] == "order=1"


def test_what_changes_is_seen_without_a_reload(app: App, environment: dict[str, str], tab: Tab) -> None:
    page = tab.open("/jobs")
    expect(page.get_by_text("There are no jobs yet")).to_be_visible()
    job_id = app.tasks["orders.gate"].defer()
    row = page.locator(f"#job-{job_id}")
    expect(row).to_contain_text("todo")
    page.get_by_role("button", name="Live").click()
    expect(page.locator("#live-text")).to_have_text("Paused")
    with worker(environment, "--concurrency", "2"):
        other = app.tasks["orders.pay"].defer(order=2)
        expect(row).to_contain_text("todo")
        page.locator("#live").click()
        expect(row).to_contain_text("doing")
        expect(row).to_contain_text("1 of 4 waiting at the gate")
        expect(page.locator(f"#job-{other}")).to_contain_text("succeeded")
        app.configure_task("orders.open").defer()
        expect(row).to_contain_text("succeeded")


def test_the_graph_while_a_worker_runs(app: App, environment: dict[str, str], tab: Tab) -> None:
    pay, gate = app.tasks["orders.pay"], app.tasks["orders.gate"]
    with app.workflow("live") as workflow:
        begin = workflow.add(gate.configure(node="begin"))
        parts = [workflow.add(pay.configure(node=f"part {n}", depends_on=begin), order=n) for n in range(3)]
        bad = workflow.add(pay.configure(node="bad", depends_on=begin), order=13)
        workflow.add(pay.configure(node="end", depends_on=[*parts, bad]), order=5)
    page = tab.open(f"/workflows/{workflow.id}")

    def node(name: str) -> str:
        return f'[data-node][aria-label^="{name},"]'

    expect(page.locator(node("begin"))).to_have_class(re.compile("st-todo"))
    expect(page.locator(".canvas .edge.unmet")).to_have_count(8)
    with worker(environment, "--concurrency", "4"):
        expect(page.locator(node("begin"))).to_have_class(re.compile("st-doing"))
        expect(page.get_by_text("1 of 4 waiting at the gate")).to_be_visible()
        expect(page.get_by_role("heading", name="live running")).to_be_visible()
        app.configure_task("orders.open").defer()
        for part in range(3):
            expect(page.locator(node(f"part {part}"))).to_have_class(re.compile("st-succeeded"))
        expect(page.locator(node("bad"))).to_have_class(re.compile("st-failed"))
        expect(page.locator(node("end"))).to_have_class(re.compile("st-cancelled"))
    expect(page.locator(node("end"))).to_contain_text("cancelled: bad failed")
    expect(page.locator(".canvas .edge.deciding")).to_have_count(1)
    expect(page.locator(".canvas .edge.met")).to_have_count(7)
    expect(page.get_by_role("heading", name="live failed")).to_be_visible()


def test_moving_about_in_a_graph(app: App, environment: dict[str, str], tab: Tab) -> None:
    pay = app.tasks["orders.pay"]
    with app.workflow("wide") as workflow:
        many = [workflow.add(pay, order=n + 20) for n in range(40)]
        workflow.add(pay.configure(node="join", depends_on=many), order=1)
    work_off(environment, "--concurrency", "10")
    page = tab.open(f"/workflows/{workflow.id}")
    group = page.locator(".node.group")
    expect(group).to_contain_text("40 × pay")
    group.click()
    expect(page.locator("[data-node]")).to_have_count(41)
    page.get_by_label("Find a job").fill("join")
    expect(page.locator(".found")).to_have_text("1 found")
    expect(page.locator(".node.hit")).to_have_count(1)
    page.get_by_label("Find a job").press("Enter")
    expect(page.locator(".node.hit")).to_be_in_viewport()
    page.get_by_label("Find a job").fill("")
    page.get_by_label("critical path").check()
    expect(page.locator(".show-critical .edge.critical")).to_have_count(1)
    moved = page.locator(".canvas > svg:not(.minimap) > g")
    before = moved.get_attribute("transform")
    page.get_by_role("button", name="Fit the whole graph").click()
    expect(moved).not_to_have_attribute("transform", before or "")
    fit = moved.get_attribute("transform") or ""
    canvas = page.locator("[data-canvas]")
    canvas.focus()
    canvas.press("+")
    canvas.press("ArrowDown")
    expect(moved).not_to_have_attribute("transform", fit)
    canvas.press("0")
    expect(moved).to_have_attribute("transform", fit)
    page.get_by_role("button", name="close orders.pay").click()
    expect(page.locator("[data-node]")).to_have_count(2)
    page.get_by_role("button", name="Time line").click()
    expect(page.locator(".time-row")).to_have_count(2)
    expect(page).to_have_url(re.compile("#time$"))
    page.reload()
    expect(page.locator(".time-row")).to_have_count(2)


def test_a_search_opens_what_it_finds_in_a_group(app: App, tab: Tab) -> None:
    pay = app.tasks["orders.pay"]
    with app.workflow("wide") as workflow:
        many = [workflow.add(pay.configure(node=f"order {n}"), order=n) for n in range(300)]
        workflow.add(pay.configure(node="join", depends_on=many), order=1)
    page = tab.open(f"/workflows/{workflow.id}")
    expect(page.locator(".node.group")).to_have_text(re.compile("300 × pay"))
    find = page.get_by_label("Find a job")
    find.fill("order 277")
    expect(page.locator(".found")).to_have_text("1 found")
    expect(page.locator(".node.hit")).to_contain_text("order 277")
    expect(page.locator(".node.group")).to_have_text(re.compile("299 × pay"))
    find.press("Enter")
    expect(page.locator(".node.hit")).to_be_in_viewport()
    find.fill("order 2")
    expect(page.locator(".found")).to_have_text("111 found, 20 of them drawn singly")
    find.fill("")
    expect(page.locator("[data-node]")).to_have_count(2)


def test_queues_workers_and_periodic_tasks(app: App, environment: dict[str, str], tab: Tab) -> None:
    app.tasks["orders.gate"].defer()
    with worker(environment):
        page = tab.open("/workers")
        row = page.locator("tr", has_text="tester")
        expect(row).to_contain_text("alive")
        expect(row).to_contain_text("1 of 1")
        expect(row.get_by_role("link", name="orders.gate")).to_be_visible()
        page.get_by_role("link", name="Queues").click()
        scripts_run(page, "/queues")
        row = page.locator("tr", has_text="gate")
        row.get_by_role("button", name="Pause").click()
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.locator(".toast")).to_have_text("queue gate is paused")
        expect(row).to_contain_text("paused")
        assert app.job_manager.list_paused_queues() == ["gate"]
        row.get_by_role("button", name="Resume").click()
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        expect(row.get_by_role("button", name="Pause")).to_be_visible()
        page.get_by_role("link", name="Periodic").click()
        scripts_run(page, "/periodic")
        row = page.locator("tr", has_text="reports.nightly")
        expect(row).to_contain_text("0 3 * * *")
        row.get_by_role("button", name="Run now").click()
        page.get_by_role("dialog").get_by_role("button", name="Run now").click()
        expect(page.locator(".toast")).to_contain_text("deferred as job")
        app.configure_task("orders.open").defer()
    assert len(list(app.job_manager.list_jobs(task="reports.nightly"))) == 1


def test_several_jobs_are_acted_on_after_a_question_that_says_how_many(app: App, tab: Tab) -> None:
    ids = [app.tasks["orders.gate"].defer() for _ in range(3)]
    page = tab.open("/jobs")
    expect(page.locator("#bulkbar")).to_be_hidden()
    for job_id in ids[:2]:
        page.get_by_label(f"Select job {job_id}").check()
    expect(page.locator("#bulk-count")).to_have_text("2 jobs")
    late = app.tasks["orders.gate"].defer()
    expect(page.locator(f"#job-{late}")).to_be_visible()
    expect(page.locator("#bulk-count")).to_have_text("2 jobs")
    page.get_by_role("button", name="Cancel", exact=True).click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("Cancel 2 jobs? Those that have started")
    question.get_by_role("button", name="No, leave it").click()
    assert all(app.job_manager.get_job_status(job_id) == "todo" for job_id in ids)
    page.get_by_role("button", name="Cancel", exact=True).click()
    question.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.locator(".toast")).to_have_text("2 jobs cancelled")
    expect(page.locator(f"#job-{ids[0]}")).to_contain_text("cancelled")
    assert [app.job_manager.get_job_status(job_id) for job_id in ids] == ["cancelled", "cancelled", "todo"]
    expect(page.locator("#bulkbar")).to_be_hidden()
    page.get_by_label("Select all jobs of this page").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    question.get_by_role("button", name="Delete 4 jobs").click()
    expect(page.get_by_text("There are no jobs yet")).to_be_visible()
    assert list(app.job_manager.list_jobs()) == []


def test_all_that_match_are_acted_on(app: App, tab: Tab) -> None:
    ids = app.tasks["orders.gate"].batch_defer(*({} for _ in range(120)))
    kept = app.tasks["orders.pay"].defer(order=1)
    page = tab.open("/jobs?queue=gate")
    page.get_by_label(f"Select job {ids[-1]}").check()
    expect(page.get_by_role("button", name="Select all that match")).to_be_hidden()
    page.get_by_label("Select all jobs of this page").check()
    expect(page.locator("#bulk-count")).to_have_text("50 jobs")
    page.get_by_role("button", name="Select all that match").click()
    expect(page.locator("#bulk-count")).to_have_text("120 jobs on all pages")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel 120 jobs").click()
    expect(page.locator(".toast")).to_have_text("120 jobs cancelled")
    expect(page.locator("#bulkbar")).to_be_hidden()
    assert {app.job_manager.get_job_status(job_id) for job_id in ids} == {"cancelled"}
    assert app.job_manager.get_job_status(kept) == "todo"


def test_older_and_newer_ones(app: App, tab: Tab) -> None:
    ids = app.tasks["orders.gate"].batch_defer(*({} for _ in range(170)))
    page = tab.open("/jobs")
    for first in (ids[-51], ids[-101], ids[-151]):
        page.get_by_role("link", name="Older").click()
        expect(page.locator("tr[data-row]").first).to_contain_text(str(first))
    for first in (ids[-101], ids[-51]):
        page.get_by_role("link", name="Newer").click()
        expect(page.locator("tr[data-row]").first).to_contain_text(str(first))
    expect(page.get_by_role("link", name="Newer")).to_have_count(0)
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tr[data-row]").first).to_contain_text(str(ids[-1]))


def test_without_scripts(app: App, browser: Browser, address: str) -> None:
    """Everything but the graphs; what can't be undone is asked for by a page."""
    ids = app.tasks["orders.gate"].batch_defer(*({} for _ in range(3)))
    with new_tab(browser, address, java_script_enabled=False) as tab:
        page = tab.page
        page.goto(f"{address}/jobs")
        for job_id in ids[:2]:
            page.get_by_label(f"Select job {job_id}").check()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_role("heading", name="Delete 2 jobs for good?")).to_be_visible()
        page.get_by_role("link", name="No, leave it").click()
        expect(page).to_have_url(f"{address}/jobs")
        page.get_by_role("link", name=re.compile(str(ids[0]))).click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Yes").click()
        expect(page.locator(".flash")).to_have_text("1 job cancelled")
        expect(page).to_have_url(f"{address}/jobs/{ids[0]}")
    assert [app.job_manager.get_job_status(job_id) for job_id in ids] == ["cancelled", "todo", "todo"]


def test_a_workflow_is_retried(app: App, environment: dict[str, str], tab: Tab) -> None:
    _, declined, _ = some_work(app, environment)
    page = tab.open("/workflows")
    page.get_by_role("link", name="bills").click()
    scripts_run(page, "/workflows/1")
    page.get_by_role("button", name="Retry what failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry what failed").click()
    expect(page.locator(".toast")).to_have_text("1 job to run again")
    expect(page.get_by_role("heading", name="bills running")).to_be_visible()
    assert app.job_manager.get_job_status(declined) == "todo"


def test_the_keyboard_is_enough(app: App, tab: Tab) -> None:
    ids = [app.tasks["orders.gate"].defer() for _ in range(3)]
    page = tab.open("/")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    expect(page.locator("body")).to_have_attribute("data-ready", "yes")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    expect(page.get_by_label(f"Select job {ids[1]}")).to_be_checked()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("pause or resume live updates")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("id=2"))
    expect(page.locator("body")).to_have_attribute("data-ready", "yes")
    page.keyboard.press("p")
    expect(page.locator("#live-text")).to_have_text("Paused")
    page.keyboard.press("p")
    expect(page.locator("#live-text")).to_have_text("Live")
    with page.expect_response("**/theme"):
        page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PATHS = ("/", "/jobs", "/jobs/1", "/jobs/2", "/workflows", "/workflows/1", "/workflows/1#time", "/queues", "/workers")


@pytest.mark.parametrize("options", [PHONE, {"viewport": {"width": 820, "height": 1180}}], ids=["phone", "tablet"])
def test_nothing_has_to_be_scrolled_sideways(
    app: App, environment: dict[str, str], browser: Browser, address: str, options: dict[str, object]
) -> None:
    some_work(app, environment)
    app.job_manager.pause_queue("money")
    app.configure_task("a_name_without_end" * 9, queue="queue_without_end" * 9, lock="lock" * 30).defer(x="y" * 900)
    with new_tab(browser, address, **options) as tab:
        for path in (*PATHS, "/periodic", "/jobs/6"):
            page = tab.open(path)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, path
            hidden = "all => all.filter(each => each.scrollWidth > each.clientWidth).length"
            assert page.locator(".scroll:has([data-row])").evaluate_all(hidden) == 0, path


def test_a_server_that_goes_away_and_comes_back(tab: Tab) -> None:
    page = tab.open("/workers")
    page.route("**/live", lambda route: route.abort())
    page.reload()
    expect(page.locator("#live-text")).to_have_text("Reconnecting")
    page.unroute("**/live")
    expect(page.locator("#live-text")).to_have_text("Live")
    assert all("net::ERR_FAILED" in each for each in tab.complaints)
    tab.complaints.clear()


def test_a_graph_that_can_not_be_read_at_first(app: App, tab: Tab) -> None:
    """It says that it is being drawn, then why it is not, and draws it when it can."""
    with app.workflow("slow") as workflow:
        workflow.add(app.tasks["orders.pay"].configure(node="only"), order=1)
    asked: list[Route] = []

    def answer(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    tab.page.route("**/api/workflows/*/graph*", answer)
    page = tab.open(f"/workflows/{workflow.id}")
    waits = page.locator("[data-wait]")
    expect(waits).to_have_text("Drawing the graph…")
    while not asked:
        page.wait_for_timeout(10)
    asked[0].fulfill(status=503)
    expect(waits).to_contain_text("The server answered 503")
    page.locator('[data-node][aria-label^="only,"]').wait_for()
    expect(waits).to_be_hidden()
    assert all("503" in each for each in tab.complaints)
    tab.complaints.clear()
