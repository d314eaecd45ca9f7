"""The dashboard's pages and their JSON twins, on a database with jobs in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps import App, SyncPsycopgConnector, statements
from procrastinate_deps.dashboard import application, create_dashboard
from procrastinate_deps.dashboard.pages import jobs as jobs_page
from procrastinate_deps.exceptions import SyncConnectorConfigurationError
from tests.integration.dashboard_client import Visitor, shown, visiting
from tests.integration.worker_helpers import one_shot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATHS = [path for path in application.PAGES if "{" not in path]


@pytest.fixture
async def visitor(app: App) -> AsyncIterator[Visitor]:
    @app.task(name="pay", queue="money", run_when="all_succeeded")
    async def pay(order: int, card: str = "") -> str:
        if order == 13:
            raise ValueError("order 13 <b>declined</b>")
        return f"paid {order}"

    async with visiting(app) as visitor:
        yield visitor


async def defer(app: App, *, depends_on: Any = None, **kwargs: Any) -> int:
    return await app.tasks["pay"].configure(depends_on=depends_on).defer_async(**kwargs)


@pytest.mark.parametrize("path", PATHS)
async def test_an_empty_database_has_pages_that_tell_what_to_do(visitor: Visitor, path: str) -> None:
    words = await visitor.page(path)
    assert any(hint in words for hint in ("procrastinate-deps ", "app.workflow", "@app.periodic")), words
    assert isinstance(await visitor.data(path if path != "/" else "/overview"), dict)


async def test_the_overview(app: App, visitor: Visitor) -> None:
    first = await defer(app, order=1)
    await defer(app, order=13)
    await defer(app, order=3, depends_on=[first])
    await one_shot(app)
    waiting = await defer(app, order=4)
    await defer(app, order=5, depends_on=[waiting])
    await app.job_manager.pause_queue_async("money")
    data = await visitor.data("/overview")
    counts = {name: count["jobs"] for name, count in data["counts"].items()}
    assert counts == {
        "blocked": 1, "todo": 1, "doing": 0, "succeeded": 2, "failed": 1, "cancelled": 0, "aborted": 0,
        "ready": 1, "scheduled": 0, "locked": 0,
    }  # fmt: skip
    assert all(count["exact"] for count in data["counts"].values())
    assert (data["charts"]["runs"], data["charts"]["failed"]) == (3, 1)
    [queue] = data["queues"]
    assert (queue["name"], queue["ready"], queue["blocked"], queue["runs_last_hour"]) == ("money", 1, 1, 3)
    assert queue["paused_at"] is not None
    assert data["oldest_ready_at"] == queue["oldest_ready_at"]
    assert [failure["error"] for failure in data["failures"]] == ["ValueError: order 13 <b>declined</b>"]
    words = await visitor.page("/")
    assert "ValueError: order 13 <b>declined</b>" in words
    assert "No worker is alive" in words
    assert "24 h" not in words
    assert "3 in the last day" in await visitor.page("/?window=day")


async def test_jobs_by_their_filters(app: App, visitor: Visitor) -> None:
    paid = await defer(app, order=1, card="x1")
    declined = await defer(app, order=13, card="x1")
    await one_shot(app)
    blocked_by = await defer(app, order=2)
    blocked = await defer(app, order=3, depends_on=[blocked_by])
    later = await app.tasks["pay"].configure(schedule_in={"hours": 1}, queue="slow").defer_async(order=14)

    async def found(query: str) -> list[int]:
        return [job["id"] for job in (await visitor.data(f"/jobs?{query}"))["jobs"]]

    assert await found("") == [later, blocked, blocked_by, declined, paid]
    assert await found("status=succeeded") == [paid]
    assert await found("status=blocked") == [blocked]
    assert await found("status=todo") == [later, blocked_by]
    assert await found("status=todo&waits_for=ready") == [blocked_by]
    assert await found("waits_for=scheduled") == [later]
    assert await found("queue=slow") == [later]
    assert await found("task=pay&status=failed") == [declined]
    assert await found("task=nothing") == []
    assert await found(f"id={declined}") == [declined]
    assert await found("argument=order=13") == [declined]
    assert await found("argument=card=x1") == [declined, paid]
    assert await found("argument=X1&status=failed") == [declined]
    assert await found("argument=order=99") == []
    assert "newest 100 000 jobs" in await visitor.page("/jobs?argument=x1")
    assert "Arguments are searched" not in await visitor.page("/jobs")
    assert f"{declined} pay" in await visitor.page(f"/jobs?before={declined + 1}")


@pytest.mark.parametrize(
    "query", ["status=lost", "before=x", "id=-1", f"id={2**63}", "workflow=1.5", "waits_for=godot", "queue=a%00b"]
)
async def test_an_address_that_makes_no_sense(visitor: Visitor, query: str) -> None:
    for path in ("/jobs", "/api/jobs"):
        answer = await visitor.get(f"{path}?{query}")
        assert answer.status_code == 400
        assert "Not an address of this page" in answer.text


async def test_page_by_page(app: App, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_page, "PAGE", 3)
    ids = [await defer(app, order=order) for order in range(7)]
    for query in ("", "status=todo&", "queue=money&"):
        seen: list[int] = []
        before = ""
        for _ in range(3):
            data = await visitor.data(f"/jobs?{query}{before}")
            seen += [job["id"] for job in data["jobs"]]
            before = f"before={data['older']}"
        assert seen == ids[::-1]
        assert data["older"] is None


async def test_no_page_looks_through_the_whole_table(
    app: App, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters that no index serves look at so many jobs at a time, and say so."""
    ids = [await defer(app, order=order) for order in range(10)]
    rare = await app.tasks["pay"].configure(queue="rare").defer_async(order=0)
    later = [await defer(app, order=order) for order in range(5)]
    monkeypatch.setattr(jobs_page, "SCAN_LIMIT", 4)
    monkeypatch.setattr(statements.dashboard_jobs, "__defaults__", (None, None, 4))
    data = await visitor.data("/jobs?queue=rare")
    assert (data["jobs"], data["searched"], data["older"]) == ([], 4, later[1])
    assert "Looked through 4 jobs, from the newest" in await visitor.page("/jobs?queue=rare")
    data = await visitor.data(f"/jobs?queue=rare&before={data['older']}")
    assert [job["id"] for job in data["jobs"]] == [rare]
    assert data["older"] == ids[-2]
    data = await visitor.data(f"/jobs?queue=rare&before={ids[1]}")
    assert (data["older"], data["searched"]) == (None, None)


async def test_a_job_that_failed_at_last(app: App, visitor: Visitor) -> None:
    @app.task(name="flaky", retry=1)
    async def flaky(wanted: dict[str, Any]) -> None:
        raise RuntimeError("no <luck>")

    job_id = await flaky.defer_async(wanted={"unusual": [1, True, None, "a<b"]})
    child = await defer(app, order=1, depends_on=[job_id])
    await one_shot(app)
    data = await visitor.data(f"/jobs/{job_id}")
    assert [step["kind"] for step in data["timeline"]] == [
        "todo", "doing", "attempt_failed", "todo", "doing", "failed",
    ]  # fmt: skip
    assert [step["attempt"] for step in data["timeline"]] == [None, 1, 1, None, 2, 2]
    assert data["timeline"][-1]["worker_id"] is not None
    assert data["children"] == {str(child): "cancelled"}
    assert data["job"]["task_kwargs"] == {"wanted": {"unusual": [1, True, None, "a<b"]}}
    words = await visitor.page(f"/jobs/{job_id}")
    assert "RuntimeError: no <luck>" in words
    assert "Traceback" in words
    assert f"cancelled {child} pay" in words
    assert "all_succeeded" in await visitor.page(f"/jobs/{child}")
    await app.job_manager.retry_job_by_id_async(job_id)
    retried = (await visitor.data(f"/jobs/{job_id}"))["timeline"]
    assert [step["kind"] for step in retried][3:] == ["doing", "failed", "retried", "todo"]


async def test_why_a_job_waits_and_what_is_bound_to_happen(app: App, visitor: Visitor) -> None:
    failed = await defer(app, order=13)
    await one_shot(app)
    root = await defer(app, order=2)
    middle = await defer(app, order=3, depends_on=[root])
    doomed = await defer(app, order=4, depends_on=[middle])
    words = await visitor.page(f"/jobs/{doomed}")
    assert "1 parent to end" in words
    assert "What it comes down to: 1 of 2 unfinished ancestors" in words
    assert f"todo {root} pay" in words
    assert "none is running" in words
    hopeless = (
        await app.tasks["pay"].configure(depends_on=[middle, failed], run_when="all_succeeded").defer_async(order=5)
    )
    words = await visitor.page(f"/jobs/{hopeless}")
    assert f"will be cancelled: parent {failed} failed" in words
    graph = await visitor.data(f"/jobs/{hopeless}/graph")
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert nodes[hopeless]["why"] == f"will be cancelled: job {failed} (failed)"
    assert nodes[hopeless]["focus"] is True
    edges = {(edge["from"], edge["to"]): edge for edge in graph["edges"]}
    assert edges[f"j{failed}", f"j{hopeless}"]["deciding"] == 1
    assert edges[f"j{middle}", f"j{hopeless}"] == {
        "from": f"j{middle}", "to": f"j{hopeless}", "count": 1, "unmet": 1,
    }  # fmt: skip
    assert nodes[root]["layer"] == 0
    assert nodes[hopeless]["layer"] == 2


async def test_a_job_that_is_not_there(visitor: Visitor) -> None:
    for path in (
        "/jobs/4711",
        "/api/jobs/4711",
        "/api/jobs/4711/graph",
        "/workflows/4711",
        "/api/workflows/4711/graph",
    ):
        answer = await visitor.get(path)
        assert answer.status_code == 404, path
        assert "There is no such" in answer.text
    assert (await visitor.get("/nothing")).status_code == 404
    assert (await visitor.get("/static/../application.py")).status_code == 404
    assert (await visitor.get("/static/nothing.css")).status_code == 404


async def test_a_workflow_and_its_graph(app: App, visitor: Visitor) -> None:
    pay = app.tasks["pay"]
    async with app.workflow("month", metadata={"of": "May"}) as workflow:
        first = workflow.add(pay.configure(node="first"), order=1)
        bad = workflow.add(pay.configure(node="bad"), order=13)
        workflow.add(pay.configure(node="last", depends_on=[first, bad]), order=3)
        many = [workflow.add(pay.configure(depends_on=first), order=order) for order in range(20, 60)]
        workflow.add(pay.configure(node="join", depends_on=many), order=5)
    [listed] = (await visitor.data("/workflows"))["workflows"]
    assert (listed["name"], listed["status"], listed["total"]) == ("month", "running", 44)
    graph = await visitor.data(f"/workflows/{workflow.id}/graph")
    assert (graph["jobs"], graph["grouped"], graph["layers"]) == (44, True, 3)
    [group] = [node for node in graph["nodes"] if node["jobs"] > 1]
    # "last" is of the same task in the same layer
    assert group["counts"] == {"blocked": 41}
    opened = await visitor.data(f"/workflows/{workflow.id}/graph?open={group['key']}")
    assert len(opened["nodes"]) == 44
    assert opened["opened"] == [group["key"]]
    await one_shot(app, concurrency=10)
    data = await visitor.data(f"/workflows/{workflow.id}")
    assert data["workflow"]["status"] == "failed"
    assert data["workflow"]["counts"]["cancelled"] == 1
    opened = await visitor.data(f"/workflows/{workflow.id}/graph?open={group['key']}")
    nodes = {node["node"]: node for node in opened["nodes"]}
    assert nodes["last"]["why"] == "cancelled: bad failed"
    assert nodes["join"]["status"] == "succeeded"
    assert opened["critical"]["jobs"]
    words = await visitor.page(f"/workflows/{workflow.id}")
    assert "42 succeeded" in words
    assert "1 because a parent was unsuccessful" in words
    assert "month" in await visitor.page("/workflows?status=failed")
    assert "No workflow fits" in await visitor.page("/workflows?status=succeeded")
    in_workflow = await visitor.data(f"/jobs?workflow={workflow.id}&status=failed")
    assert [job["node"] for job in in_workflow["jobs"]] == ["bad"]


async def test_workers_and_periodic_tasks(app: App, visitor: Visitor) -> None:
    @app.periodic(cron="0 3 * * *")
    @app.task(name="nightly")
    async def nightly(timestamp: int) -> None: ...

    await one_shot(app)
    worker = psycopg.connect(**_libpq(app), autocommit=True)
    with worker:
        worker.execute(
            "SELECT procrastinate_deps.register_worker('old', 'far', 7, '{a,b}', 3, '0.0.1');"
            "UPDATE procrastinate_deps.workers SET heartbeat_at = now() - interval '1 hour'"
        )
    [listed] = (await visitor.data("/workers"))["workers"]
    assert (listed["name"], listed["queues"], listed["concurrency"]) == ("old", ["a", "b"], 3)
    assert (await visitor.data("/workers"))["alive"] == 0
    assert "silent old" in await visitor.page("/workers")
    [task] = (await visitor.data("/periodic"))["tasks"]
    assert (task["task_name"], task["cron"], task["next_at"][11:19]) == ("nightly", "0 3 * * *", "03:00:00")
    assert "0 3 * * *" in await visitor.page("/periodic")


async def test_what_is_hidden_is_not_shown_nor_found(app: App, visitor: Visitor) -> None:
    job_id = await defer(app, order=7, card="4111-1111")
    for hide in (["CARD"], ["c*"], lambda task, name, value: (task, name, value) == ("pay", "card", "4111-1111")):
        async with visiting(app, hide=hide) as discreet:
            for path in ("/jobs", f"/jobs/{job_id}", "/api/jobs", f"/api/jobs/{job_id}"):
                text = (await discreet.get(path)).text
                assert "4111-" not in text, path
                assert "(hidden)" in text, path
            assert (await discreet.data("/jobs?argument=4111"))["jobs"] == []
            assert (await discreet.data("/jobs?argument=card=4111-1111"))["jobs"] == []
            assert [job["id"] for job in (await discreet.data("/jobs?argument=order=7"))["jobs"]] == [job_id]
    assert "4111" in await visitor.page(f"/jobs/{job_id}")
    with pytest.raises(TypeError, match="hide='card': pass a list"):
        create_dashboard(app, hide="card")


async def test_text_that_is_no_text(app: App, visitor: Visitor) -> None:
    """Half a character, a huge number, deep nesting: a page shows them somehow."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    job_id = await app.configure_task("odd").defer_async(big=10**400, deep=deep, mark="</script>\u2028")
    assert "</script>" in await visitor.page(f"/jobs/{job_id}")
    assert (await visitor.data(f"/jobs/{job_id}"))["job"]["task_kwargs"]["big"] == 10**400
    assert "odd" in await visitor.page("/jobs")


@pytest.mark.parametrize(
    "path", [*PATHS, "/jobs?queue=a", "/jobs?argument=x", "/jobs/1", "/workflows/1", "/api/overview"]
)
async def test_no_statement_takes_longer_than_it_may(app: App, visitor: Visitor, path: str) -> None:
    """Somebody has locked all tables: the server ends the page's statement, and the connection is used again."""
    await defer(app, order=1)
    async with visiting(app, read_timeout=0.2) as impatient:
        with psycopg.connect(**_libpq(app)) as blocker:
            blocker.execute(
                "LOCK TABLE procrastinate_deps.jobs, procrastinate_deps.workers, procrastinate_deps.workflows, "
                "procrastinate_deps.periodic_tasks, procrastinate_deps.paused_queues"
            )
            with anyio.fail_after(10):
                answer = await impatient.get(path)
            blocker.rollback()
        assert answer.status_code == 503
        assert "That took too long" in answer.text
    if path in PATHS:
        await visitor.page(path)


async def test_a_database_that_is_away_is_not_described(app: App) -> None:
    async with visiting(app) as visitor:
        await app.close_async()
        answer = await visitor.get("/")
        assert answer.status_code == 503
        assert "The database doesn't answer" in shown(answer.text)
        assert str(app.connector.connection_parameters()["dbname"]) not in answer.text
        assert (await visitor.get("/api/jobs")).json()["error"] == "The database doesn't answer"


def test_it_needs_an_async_connector(dsn: str) -> None:
    with pytest.raises(SyncConnectorConfigurationError, match="async connector, not SyncPsycopgConnector"):
        create_dashboard(App(SyncPsycopgConnector(conninfo=dsn)))


def _libpq(app: App) -> dict[str, Any]:
    return dict(app.connector.connection_parameters())
