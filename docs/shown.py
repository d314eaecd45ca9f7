"""A shop with a day of history and work under way: what the screenshots of the documentation show."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from procrastinate_deps import App, JobContext, RetryStrategy

if TYPE_CHECKING:
    from collections.abc import Sequence

app = App()


@app.task(name="orders.charge", queue="money", run_when="all_succeeded", retry=RetryStrategy(max_attempts=2, wait=1))
async def charge(order: int, card: str = "") -> str:
    await asyncio.sleep(0.05)
    if order % 13 == 0:
        raise ValueError(f"the bank declined order {order}: insufficient funds")
    return f"paid {order}"


@app.task(name="orders.ship", queue="warehouse", run_when="all_succeeded")
async def ship(order: int) -> None:
    await asyncio.sleep(0.03)


@app.task(name="mails.send", queue="mails")
async def send_mail(to: str, template: str) -> None:
    await asyncio.sleep(0.02)


@app.task(name="etl.extract", queue="etl", run_when="all_succeeded")
async def extract(source: str, take_s: float = 0.3) -> int:
    await asyncio.sleep(take_s)
    if source == "legacy":
        raise ConnectionError("legacy.example: no route to host")
    return random.Random(source).randrange(1000, 90000)


@app.task(name="etl.transform", queue="etl", run_when="all_succeeded", pass_context=True)
async def transform(context: JobContext, source: str, take_s: float = 0.4) -> int:
    for done in range(10):
        await context.set_progress_async(done, 10, message=f"cleaning {source}")
        await asyncio.sleep(take_s / 10)
    return 42


@app.task(name="etl.join", queue="etl", run_when="all_succeeded")
async def join(take_s: float = 0.3) -> None:
    await asyncio.sleep(take_s)


@app.task(name="etl.load", queue="etl", run_when="all_succeeded", pass_context=True)
async def load(context: JobContext, table: str, take_s: float = 0.5) -> int:
    steps = 20
    for done in range(steps):
        await context.set_progress_async(done, steps, message=f"copying into {table}")
        await asyncio.sleep(take_s / steps)
    return 100_000


@app.task(name="etl.alert", queue="mails", run_when="any_failed")
async def alert(channel: str) -> None:
    await asyncio.sleep(0.02)


@app.task(name="reports.render", queue="reports", run_when="all_succeeded")
async def render(page: int) -> None:
    await asyncio.sleep(0.01)


@app.periodic(cron="*/5 * * * *")
@app.task(name="reports.refresh", queue="reports")
async def refresh(timestamp: int) -> None: ...


@app.periodic(cron="0 3 * * *")
@app.task(name="maintenance.vacuum", queue="maintenance")
async def vacuum(timestamp: int) -> None: ...


SOURCES = ("orders", "customers", "payments", "shipments", "returns")


async def nightly(name: str, *, sources: Sequence[str] = SOURCES, slow: float = 1.0) -> int:
    """An ETL: its sources, their joins, two tables, and an alert if something failed."""
    async with app.workflow(name, metadata={"owner": "data team", "date": "2026-01-31"}) as workflow:
        cleaned = {}
        for at, source in enumerate(sources):
            raw = workflow.add(extract.configure(node=f"extract {source}"), source=source, take_s=slow * (0.2 + at / 8))
            cleaned[source] = workflow.add(
                transform.configure(node=f"clean {source}", depends_on=raw), source=source, take_s=slow * (0.9 - at / 8)
            )
        first, second = sources[0], sources[-1]
        sales = workflow.add(join.configure(node="join sales", depends_on=list(cleaned.values())[:3]), take_s=slow / 3)
        stock = workflow.add(join.configure(node="join stock", depends_on=list(cleaned.values())[2:]), take_s=slow / 4)
        tables = [
            workflow.add(load.configure(node=f"load {table}", depends_on=[source]), table=table, take_s=slow)
            for table, source in (("fact_sales", sales), ("fact_stock", stock), (f"dim_{first}", cleaned[first]))
        ]
        workflow.add(
            load.configure(node="audit", depends_on=[*tables, cleaned[second]]), table="audit", take_s=slow / 2
        )
        workflow.add(alert.configure(node="alert", depends_on=tables), channel="#data")
    return int(workflow.id)


async def wide(name: str, width: int, depth: int) -> int:
    """Pages of a report in several rounds, with a join after each."""
    async with app.workflow(name) as workflow:
        before: Any = []
        for round_ in range(depth):
            pages = [
                workflow.add(render.configure(depends_on=before), page=round_ * width + page) for page in range(width)
            ]
            before = workflow.add(join.configure(node=f"round {round_ + 1}", depends_on=pages), take_s=0.01)
    return int(workflow.id)


def history(now: datetime) -> list[tuple[Any, ...]]:
    """A day of numbers as workers would have added them, minute by minute."""
    chance = random.Random(5)
    rows = []
    for back in range(1, 24 * 60):
        minute = (now - timedelta(minutes=back)).replace(second=0, microsecond=0)
        busy = 40 + 30 * ((minute.hour - 6) % 24 < 12) + 12 * chance.random() + (35 if 20 < back < 27 else 0)
        for queue, task, share in (
            ("money", "orders.charge", 0.5),
            ("mails", "mails.send", 0.3),
            ("etl", "etl.load", 0.2),
        ):
            for status, part in (("succeeded", 0.97), ("failed", 0.03 + (0.25 if 22 < back < 26 else 0))):
                runs = round(busy * share * part * chance.uniform(0.7, 1.3))
                if runs:
                    run = 0.06 * chance.uniform(0.8, 1.5)
                    wait = 0.02 * chance.uniform(0.5, 2) * (6 if 20 < back < 27 else 1)
                    rows.append((minute, runs, run, wait, status, queue, task))
    return rows


def now() -> datetime:
    return datetime.now(UTC)
