"""What is too much for the dashboard, or makes no sense: it says so, and goes on."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from procrastinate_deps import SyncPsycopgConnector, statements
from procrastinate_deps.dashboard import create_dashboard, live, security, shortening
from procrastinate_deps.dashboard.pages import jobs as jobs_page
from procrastinate_deps.dashboard.state import Limited
from procrastinate_deps.exceptions import ConnectorException
from tests.integration.dashboard_client import visiting

if TYPE_CHECKING:
    from procrastinate_deps import App

HUGE = "9" * 5000


async def test_a_page_cannot_write(app: App) -> None:
    reads, acts = Limited(app, 5, read_only=True), Limited(app, 5, read_only=False)
    with pytest.raises(ConnectorException, match="read-only transaction"):
        await reads.execute_async(statements.pause_queue("mails"))
    assert await acts.execute_async(statements.pause_queue("mails"))


@pytest.mark.parametrize("depth", [500, 900, 3000, 6000])
async def test_a_job_with_a_value_that_is_nested_deeply_has_a_page(app: App, dsn: str, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    with psycopg.connect(dsn) as conn:
        insert = "INSERT INTO procrastinate_deps.jobs (task_name, args) VALUES ('deep', %s) RETURNING id"
        row = conn.execute(insert, [f'{{"a": {deep}}}']).fetchone()
    assert row is not None
    async with visiting(app) as visitor:
        for path in (f"/jobs/{row[0]}", f"/api/jobs/{row[0]}", "/jobs", "/api/jobs"):
            answer = await visitor.get(path)
            assert answer.status_code == 200, path
        assert "deep" in (await visitor.get(f"/jobs/{row[0]}")).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/jobs/{2**63}", 404),
        (f"/jobs/{HUGE}", 404),
        (f"/workflows/{HUGE}", 404),
        (f"/api/workflows/{2**63}/graph", 404),
        ("/jobs/-1", 404),
        ("/jobs/1%00", 404),
        (f"/jobs?id={HUGE}", 400),
        (f"/jobs?before={2**63}", 400),
        ("/jobs?argument=%00", 400),
        ("/api/workflows/1/graph?find=%00", 400),
        ("/jobs?queue=%ff%fe", 200),
        (f"/jobs?trail=.x.{HUGE}.7&before=5", 200),
        ("/jobs?path=x&self=y&name=z", 200),
        ("/?path=x", 200),
        (f"/static/{'a' * 400}", 404),
        ("/static/..%2fsecurity.py", 404),
        ("/static/%00", 404),
    ],
)
async def test_addresses_that_make_no_sense(app: App, path: str, status: int) -> None:
    async with visiting(app, actions=True) as visitor:
        answer = await visitor.get(path)
        assert (answer.status_code, "Something went wrong" in answer.text) == (status, False)


async def test_forms_that_make_no_sense(app: App) -> None:
    async with visiting(app, actions=True) as visitor:
        for path, fields in (
            ("/jobs/act", {"action": "retry", "ids": HUGE}),
            ("/jobs/act", {"action": "retry", "ids": "1 x"}),
            ("/periodic/run", {"task": "x", "periodic_id": "\0"}),
            ("/queues/act", {"action": "pause", "queue": "\0"}),
        ):
            assert (await visitor.post(path, fields)).status_code == 400, fields
        answer = await visitor.post("/jobs/act", {"action": "retry", "ids": "1 " * security.MAX_BODY})
        assert answer.status_code == 413


async def test_a_login_without_end(app: App) -> None:
    async with visiting(app, password="x") as visitor:
        origin = {"origin": "http://localhost:8000"}
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
            body = b"password=" + b"x" * security.MAX_BODY
            answer = await visitor.client.post("/login", content=body, headers={**origin, "content-type": kind})
            assert answer.status_code in (400, 403, 413), kind


async def test_large_values_are_cut_and_said_to_be(app: App, dsn: str) -> None:
    job_id = await app.configure_task("big").defer_async(text="a" * 10_000_000, end="here")
    other = await app.configure_task("other").defer_async()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE procrastinate_deps.jobs SET error = repeat('first ', 1000000) || 'last' WHERE id = %s", [other]
        )
    async with visiting(app) as visitor:
        page = await visitor.get(f"/jobs/{job_id}")
        assert len(page.text) < 2 * shortening.MAX_SHOWN
        assert "characters more are left out here" in page.text
        assert "10.0 MB" in await visitor.page("/jobs") or "kB of arguments" in await visitor.page("/jobs")
        assert len((await visitor.data(f"/jobs/{job_id}"))["job"]["task_kwargs"]["text"]) == 10_000_000
        words = await visitor.page(f"/jobs/{other}")
        assert len(words) < 2 * shortening.MAX_SHOWN
        assert "first last" in words


async def test_a_job_that_is_nested_too_deeply_breaks_no_list(app: App, dsn: str) -> None:
    deep = "[" * 3000 + "]" * 3000
    other = await app.configure_task("other").defer_async()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO procrastinate_deps.jobs (task_name, args) VALUES ('deep', %s::jsonb)", [f'{{"a": {deep}}}']
        )
        connection.execute(
            "INSERT INTO procrastinate_deps.jobs (task_name, args) VALUES ('flat', %s)", [Jsonb({"a": 1})]
        )
    for hide in ((), ["b"]):
        async with visiting(app, hide=hide) as visitor:
            words = await visitor.page("/jobs")
            assert all(name in words for name in ("deep", "flat", "other"))
            assert (await visitor.get(f"/jobs/{other}")).status_code == 200


async def test_no_more_pages_are_live_than_can_be(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    dashboard = create_dashboard(app)
    dashboard.state.dashboard.live.streams = live.MAX_STREAMS
    async with visiting(dashboard) as visitor:
        answer = await visitor.get("/live")
        assert (answer.status_code, "Too many pages" in answer.text) == (429, True)
        assert (await visitor.get("/workers")).status_code == 200


def basic(password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


async def test_many_wrong_passwords(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then not even the right one tells that it is right; from elsewhere, and with a cookie, nothing is changed."""
    async with visiting(app, password="open") as visitor:

        async def status(password: str) -> int:
            return (await visitor.get("/api/workers", **basic(password))).status_code

        assert [await status("x") for _ in range(security.WRONG_PASSWORDS)] == [401] * security.WRONG_PASSWORDS
        assert await status("x") == 429
        assert await status("open") == 429
        transport: Any = visitor.client._transport
        transport.client = ("192.0.2.7", 1)
        assert await status("open") == 200
        transport.client = ("127.0.0.1", 1)
        later = time.monotonic() + security.ALLOWED_AGAIN_S
        monkeypatch.setattr("time.monotonic", lambda: later)
        assert await status("open") == 200


async def test_addresses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "ADDRESSES_KEPT", 3)
    tries = security.Tries()
    for address in "abcd":
        for _ in range(security.WRONG_PASSWORDS):
            tries.wrong(address)
    assert [tries.wait_s(address) > 0 for address in "abcd"] == [False, True, True, True]


async def test_a_proxy_needs_a_password(app: App) -> None:
    """Behind it everybody seems to be on this machine, and it may send the name that we expect."""
    async with visiting(app) as visitor:
        for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
            assert (await visitor.get("/workers", **{header: "192.0.2.7"})).status_code == 403
    async with visiting(app, "http://jobs.example", allowed_hosts=["jobs.example"]) as visitor:
        assert (await visitor.get("/workers")).status_code == 200
        transport: Any = visitor.client._transport
        transport.client = ("192.0.2.7", 1)
        assert (await visitor.get("/workers")).status_code == 403
        transport.client = ("::ffff:127.0.0.1", 1)
        assert (await visitor.get("/workers")).status_code == 200


async def test_all_that_match(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await app.configure_task(f"t{n % 2}", queue="q").defer_async(n=n % 3) for n in range(9)]
    async with visiting(app) as visitor:
        for query, found in (
            ("", ids),
            ("status=todo", ids),
            ("status=failed", []),
            ("task=t1&queue=q", ids[1::2]),
            ("waits_for=ready", ids),
            ("argument=n%3D2", ids[2::3]),
        ):
            answer = await visitor.data(f"/ids?{query}")
            assert (sorted(answer["ids"]), answer["more"]) == (found, False), query
        monkeypatch.setattr(jobs_page, "MANY", 2)
        assert sorted((await visitor.data("/ids?argument=n"))["ids"]) == ids
        monkeypatch.setattr(jobs_page, "MAX_IDS", 4)
        for query in ("", "argument=n"):
            answer = await visitor.data(f"/ids?{query}")
            assert (len(answer["ids"]), answer["more"], answer["limit"]) == (4, True, 4), query


async def test_without_a_script_it_is_asked_by_a_page(app: App) -> None:
    ids = [await app.configure_task("x").defer_async() for _ in range(3)]
    async with visiting(app, actions=True) as visitor:
        fields = {"action": "delete", "ids": [str(each) for each in ids[:2]], "back": "/jobs?queue=<b>", "sure": "no"}
        answer = await visitor.post("/jobs/act", fields)
        assert (answer.status_code, "Delete 2 jobs for good?" in answer.text) == (200, True)
        assert "<b>" not in answer.text
        assert answer.text.count('name="ids"') == 2
        assert len(list(await app.job_manager.list_jobs_async())) == 3
        answer = await visitor.post("/jobs/act", {**fields, "sure": "yes"})
        assert (answer.status_code, answer.headers["location"][:5]) == (303, "/jobs")
        assert [job.id for job in await app.job_manager.list_jobs_async()] == ids[2:]


async def test_the_way_back_to_newer_ones(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_page, "PAGE", 2)
    for _ in range(7):
        await app.configure_task("x").defer_async()
    async with visiting(app) as visitor:
        page = (await visitor.get("/jobs?before=4&trail=6")).text
        assert 'href="/jobs?before=6" rel="prev"' in page
        assert 'href="/jobs?before=2&amp;trail=6.4" rel="next"' in page
        assert 'rel="prev"' not in (await visitor.get("/jobs?before=6")).text


def test_the_sync_connector_reads_too(dsn: str) -> None:
    with SyncPsycopgConnector(conninfo=dsn) as connector:
        statement = statements.pause_queue("mails")
        refused = type(statement)(statement.name, statement.values, statement.read, timeout_s=5, read_only=True)
        with pytest.raises(ConnectorException, match="read-only transaction"):
            connector.execute(refused)
