"""`hide`: a value that is hidden stands on no page, in no text about its job, and is not found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from procrastinate_deps import JobContext, RetryStrategy
from procrastinate_deps.dashboard.hiding import Hider
from tests.integration.dashboard_client import Visitor, visiting
from tests.integration.worker_helpers import one_shot, working

if TYPE_CHECKING:
    from procrastinate_deps import App

SECRET = "4111-1111'\n-----key of ours-----"
PAGES = ("/", "/jobs", "/workflows", "/workflows/1", "/api/overview", "/api/jobs", "/api/workflows", "/api/workflows/1")


async def look(visitor: Visitor, *paths: str) -> str:
    """All that is shown there."""
    answers = [await visitor.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    return " ".join(answer.text for answer in answers)


async def test_in_errors_reasons_results_and_metadata(app: App) -> None:
    @app.task(name="pay", retry=RetryStrategy(max_attempts=2))
    async def pay(card: str, order: int) -> dict[str, str]:
        if order == 13:
            raise ValueError(f"declined {card!r}, which is {card}")
        return {"card": card, "said": f"paid by {card}"}

    async with app.workflow("bills", metadata={"card": SECRET, "of": "ada"}) as workflow:
        workflow.add(pay, card=SECRET, order=13)
        workflow.add(pay, card=SECRET, order=1)
    await one_shot(app)
    ids = [job.id for job in await app.job_manager.list_jobs_async()]
    paths = [*PAGES, *(f"{api}/jobs/{job_id}" for job_id in ids for api in ("", "/api"))]
    async with visiting(app) as visitor:
        assert "4111-1111" in await look(visitor, *paths)
    async with visiting(app, hide=["card"]) as visitor:
        shown = await look(visitor, *paths)
        assert "4111-" not in shown
        assert "key of ours" not in shown
        assert "declined" in shown
        assert "paid by (hidden)" in shown
        assert "ada" in shown
        for argument in ("4111", "card=4111", "key of ours"):
            assert (await visitor.data(f"/jobs?argument={argument}"))["jobs"] == []
            assert (await visitor.data(f"/ids?argument={argument}"))["ids"] == []


async def test_in_progress_of_it_and_of_what_waits_for_it(app: App) -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    @app.task(name="charge", pass_context=True)
    async def charge(context: JobContext, card: str) -> None:
        await context.set_progress_async(1, 2, message=f"charging {card}")
        begun.set()
        await go_on.wait()

    running = await charge.defer_async(card="4111-1111")
    waiting = await app.configure_task("charge", depends_on=running).defer_async(card="4222")
    paths = [f"{api}/jobs{one}" for api in ("", "/api") for one in ("", f"/{running}", f"/{waiting}")]
    async with working(app):
        await begun.wait()
        async with visiting(app) as visitor:
            assert "charging 4111-1111" in await look(visitor, *paths)
        async with visiting(app, hide=["card"]) as visitor:
            shown = await look(visitor, *paths)
            assert "4111-" not in shown
            assert "4222" not in shown
            assert "charging (hidden)" in shown
        go_on.set()


@pytest.mark.parametrize(
    ("arguments", "text", "shown"),
    [
        ({"pin": 7, "a": 1}, "pin 7 of 77, 1", "pin (hidden) of 77, 1"),
        ({"pin": "abcd"}, "xabcdx", "x(hidden)x"),
        ({"pin": {"a": ["deep", None, True]}}, "deep None True", "(hidden) None True"),
        ({"a": [{"pin": "ab", "b": "cd"}]}, "ab cd abc", "(hidden) cd abc"),
        ({"pin": "long one", "pins": 1, "Pin": "long one and more"}, "long one and more", "(hidden)"),
        ({"pin": ""}, "x", "x"),
        (None, "x", "(hidden)"),
    ],
)
def test_of_a_text(arguments: object, text: str, shown: str) -> None:
    assert Hider(["pin"]).text("t", arguments, text) == shown
    assert Hider([]).text("t", arguments, text) == text


def test_a_piece_of_a_text_may_hold_a_piece_of_a_value() -> None:
    hider = Hider(["pin"])
    assert hider.text("t", {"pin": "12345678"}, "5678", whole=False) == "(hidden)"
    assert hider.text("t", {"a": "12345678"}, "5678", whole=False) == "5678"
