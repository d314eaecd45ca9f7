"""Who gets into the dashboard, and what no page lets through."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount

from procrastinate_deps.dashboard import create_dashboard, security
from tests.integration.dashboard_client import HERE, shown, visiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from procrastinate_deps import App

PASSWORD = "öpen sesame"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


@pytest.mark.parametrize("path", ["/", "/jobs/4711", "/nothing", "/jobs?id=x", "/static/dashboard.js", "/api/workers"])
async def test_every_response_says_what_a_browser_may_do(app: App, path: str) -> None:
    async with visiting(app) as visitor:
        headers = (await visitor.get(path)).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


async def test_static_files_with_a_version_are_kept(app: App) -> None:
    async with visiting(app) as visitor:
        assert "immutable" in (await visitor.get("/static/dashboard.css?v=1")).headers["cache-control"]


@pytest.mark.parametrize("address", ["http://evil.example", "http://192.168.0.7:8000", "http://localhost.evil.example"])
async def test_another_name_for_this_machine_is_refused(app: App, address: str) -> None:
    """DNS rebinding: a page of somebody else lets its own name point here."""
    async with visiting(app, address) as visitor:
        for path in ("/", "/api/jobs", "/static/dashboard.js", "/live"):
            answer = await visitor.get(path)
            assert answer.status_code == 400
            assert "Not a name of this dashboard" in answer.text


@pytest.mark.parametrize(
    "address", ["http://localhost", "http://127.0.0.1:8000", "http://[::1]:8000", "http://LOCALHOST:1"]
)
async def test_the_names_of_the_loopback(app: App, address: str) -> None:
    async with visiting(app, address) as visitor:
        assert (await visitor.get("/workers")).status_code == 200


async def test_from_another_machine(app: App) -> None:
    async with visiting(app) as visitor:
        visitor.client._transport.client = ("192.168.0.7", 1)  # type: ignore[attr-defined]
        answer = await visitor.get("/workers")
    assert answer.status_code == 403
    assert "Only from this machine" in answer.text


async def test_the_names_that_are_allowed(app: App) -> None:
    async with visiting(app, "https://Jobs.example", allowed_hosts=["jobs.example"], password=PASSWORD) as visitor:
        assert (await visitor.get("/login")).status_code == 200
        assert (await visitor.get("/login", host="jobs.example:444")).status_code == 200
        assert (await visitor.get("/login", host="other.example")).status_code == 400


async def test_a_password_by_the_form(app: App) -> None:
    async with visiting(app, "https://jobs.example", password=PASSWORD) as visitor:
        answer = await visitor.get("/jobs?status=failed")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/jobs%3Fstatus%3Dfailed")
        for path in ("/api/jobs", "/live"):
            assert (await visitor.get(path)).status_code in (303, 401)
        page = await visitor.get(answer.headers["location"])
        assert "Password" in shown(page.text)
        token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
        login = str(page.url)
        origin = {"origin": "https://jobs.example"}
        wrong = await visitor.client.post(login, data={"password": "x", "csrf_token": token}, headers=origin)
        assert (wrong.status_code, "That is not the password" in shown(wrong.text)) == (403, True)
        assert (await visitor.client.post(login, data={"password": PASSWORD}, headers=origin)).status_code == 403
        right = await visitor.client.post(login, data={"password": PASSWORD, "csrf_token": token}, headers=origin)
        assert (right.status_code, right.headers["location"]) == (303, "/jobs?status=failed")
        cookie = right.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
        assert (await visitor.get("/workers")).status_code == 200
        assert (await visitor.get("/api/workers")).status_code == 200
        out = await visitor.client.post("/logout", data={"csrf_token": token}, headers=origin)
        assert out.headers["location"] == "/login"
        assert (await visitor.get("/workers")).status_code == 303


@pytest.mark.parametrize("after", ["//evil.example", "/\\evil.example", "https://evil.example", "/\nx"])
async def test_the_login_leads_nowhere_else(app: App, after: str) -> None:
    async with visiting(app, password=PASSWORD) as visitor:
        page = await visitor.client.get("/login", params={"next": after})
        token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
        answer = await visitor.client.post(
            "/login",
            params={"next": after},
            data={"password": PASSWORD, "csrf_token": token},
            headers={"origin": HERE},
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_password_by_the_header(app: App) -> None:
    async with visiting(app, password=PASSWORD) as visitor:
        assert (await visitor.get("/api/workers", authorization=basic(PASSWORD))).status_code == 200
        for wrong in (basic("x"), basic(""), "Basic ???", "Bearer x", ""):
            answer = await visitor.get("/api/workers", authorization=wrong)
            assert (answer.status_code, "Basic" in answer.headers["www-authenticate"]) == (401, True)


@pytest.mark.parametrize("cookie", ["", ".", "1.x", "99999999999.", f"99999999999.{'0' * 64}", "x.y.z", "ö.ö"])
async def test_a_cookie_that_was_made_up(app: App, cookie: str) -> None:
    async with visiting(app, password=PASSWORD) as visitor:
        header = f"{security.SESSION_COOKIE}={cookie}".encode()
        assert (await visitor.client.get("/api/workers", headers={b"cookie": header})).status_code == 401


def test_a_cookie_holds_for_its_time_and_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = security.Sessions(PASSWORD)
    cookie = sessions.new()
    assert sessions.is_valid(cookie)
    assert security.Sessions(PASSWORD).is_valid(cookie)
    assert not security.Sessions("other").is_valid(cookie)
    assert not sessions.is_valid(cookie[:-1] + ("0" if cookie[-1] != "0" else "1"))
    monkeypatch.setattr(security, "SESSION_S", -1)
    assert not sessions.is_valid(sessions.new())


async def test_auth_of_ones_own(app: App) -> None:
    async def asked(request: Request) -> bool | Response:
        match request.headers.get("user"):
            case "ada":
                return True
            case "bob":
                return False
        return RedirectResponse("https://login.example/")

    answers: list[Callable[[Request], Any]] = [asked, lambda request: request.headers.get("user") == "ada"]
    for auth in answers:
        async with visiting(app, "https://jobs.example", auth=auth) as visitor:
            assert (await visitor.get("/workers", user="ada")).status_code == 200
            assert (await visitor.get("/workers", user="bob")).status_code == 403
    async with visiting(app, "https://jobs.example", auth=asked) as visitor:
        answer = await visitor.get("/live")
        assert (answer.status_code, answer.headers["location"]) == (307, "https://login.example/")
    async with visiting(app, auth=lambda request: "yes") as visitor:
        assert (await visitor.get("/workers")).status_code == 403


async def test_it_only_shows_unless_told_otherwise(app: App) -> None:
    job_id = await app.configure_task("x").defer_async()
    actions: list[tuple[str, dict[str, Any]]] = [
        ("/jobs/act", {"action": "cancel", "ids": job_id}),
        ("/queues/act", {"action": "pause", "queue": "default"}),
        ("/periodic/run", {"task": "x"}),
        ("/workflows/1/act", {"action": "cancel"}),
    ]
    async with visiting(app) as visitor:
        assert "<button>" not in (await visitor.get(f"/jobs/{job_id}")).text
        for path, fields in actions:
            answer = await visitor.post(path, fields)
            assert (answer.status_code, "This dashboard only shows" in shown(answer.text)) == (403, True), path
    assert await app.job_manager.get_job_status_async(job_id) == "todo"
    assert await app.job_manager.list_paused_queues_async() == []

    async def admins(request: Request) -> bool:
        return request.headers.get("user") == "ada"

    async with visiting(app, actions=admins) as visitor:
        assert (await visitor.post(*actions[1], user="bob")).status_code == 403
        assert (await visitor.post(*actions[1], user="ada")).status_code == 303
        assert "Resume" in shown((await visitor.get("/queues", user="ada")).text)
        assert "Resume" not in shown((await visitor.get("/queues")).text)


async def test_only_a_form_of_ours_does_anything(app: App) -> None:
    fields = {"action": "pause", "queue": "default", "sure": "yes"}
    async with visiting(app, actions=True) as visitor:
        token = await visitor.token()
        own = {"origin": HERE}

        async def status(data: dict[str, str], headers: dict[str, str]) -> int:
            return (await visitor.client.post("/queues/act", data=data, headers=headers)).status_code

        assert await status(fields, own) == 403
        assert await status({**fields, "csrf_token": "x"}, own) == 403
        assert await status({**fields, "csrf_token": ""}, own) == 403
        good = {**fields, "csrf_token": token}
        assert await status(good, {"origin": "http://evil.example"}) == 403
        assert await status(good, {"origin": "null"}) == 403
        assert await status(good, {"origin": "http://localhost:9000"}) == 403
        assert await status(good, {"sec-fetch-site": "cross-site"}) == 403
        assert await app.job_manager.list_paused_queues_async() == []
        assert (await visitor.client.get("/queues/act", params=good)).status_code == 405
        cookies = dict(visitor.client.cookies)
        visitor.client.cookies.clear()
        assert await status(good, own) == 403
        visitor.client.cookies.update(cookies)
        assert await status(good, own) == 303
        assert await app.job_manager.list_paused_queues_async() == ["default"]


async def test_mounted_in_another_app(app: App) -> None:
    outer = Starlette(routes=[Mount("/intern/jobs", create_dashboard(app, actions=True, title="Shop"))])
    job_id = await app.configure_task("x").defer_async()
    async with visiting(outer, root="/intern/jobs") as visitor:
        page = (await visitor.get("/jobs")).text
        assert f'href="/intern/jobs/jobs/{job_id}"' in page
        assert 'href="/intern/jobs/static/dashboard.css?v=' in page
        assert 'data-root="/intern/jobs"' in page
        assert " Shop" in page
        assert (await visitor.data("/workers"))["alive"] == 0
        answer = await visitor.post(
            "/jobs/act", {"action": "cancel", "ids": job_id, "back": "/intern/jobs/jobs?queue=a"}
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/intern/jobs/jobs?queue=a")
        assert "1 job cancelled" in await visitor.page("/jobs")
        assert "1 job cancelled" not in await visitor.page("/jobs")
        answer = await visitor.post("/jobs/act", {"action": "retry", "ids": job_id, "back": "//evil.example/"})
        assert answer.headers["location"] == "/intern/jobs/"


async def test_by_itself_it_opens_the_app(app: App) -> None:
    await app.close_async()
    dashboard = create_dashboard(app)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(dashboard.router.lifespan_context(dashboard))
        visitor = await stack.enter_async_context(visiting(dashboard))
        assert (await visitor.get("/workers")).status_code == 200


async def test_what_was_not_foreseen_is_logged_and_not_shown(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def auth(request: Request) -> bool:
        return True

    def broken(request: Request) -> bool:
        raise RuntimeError("secret of mine")

    async with visiting(app, auth=auth, actions=broken) as visitor:
        for path in ("/workers", "/jobs"):
            answer = await visitor.get(path)
            assert (answer.status_code, "secret" in answer.text) == (500, False)
            assert "Something went wrong here" in answer.text
    assert "secret of mine" in caplog.text


async def test_an_empty_password_is_no_password(app: App) -> None:
    with pytest.raises(ValueError, match="password=''"):
        create_dashboard(app, password="")
