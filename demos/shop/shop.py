"""A shop whose orders and jobs are committed together. See README.md."""

from __future__ import annotations

import psycopg

from procrastinate_deps import App, JobContext

QUEUE = "shop"
DECLINED_CARD = "0000"

app = App(import_paths=["shop"])


@app.task(name="shop.charge", queue=QUEUE)
async def charge(order: int, card: str) -> str:
    if card == DECLINED_CARD:
        raise PermissionError(f"the card of order {order} was declined")
    return f"order {order} is paid"


@app.task(name="shop.pack", queue=QUEUE)
def pack(order: int) -> str:
    return f"order {order} is packed"


@app.task(name="shop.ship", queue=QUEUE, run_when="all_succeeded")
async def ship(order: int) -> str:
    return f"order {order} is on its way"


@app.task(name="shop.tell_customer", queue=QUEUE, pass_context=True)
async def tell_customer(context: JobContext, order: int) -> str:
    statuses = await context.get_parent_statuses_async()
    shipped = set(statuses.values()) == {"succeeded"}
    return f"your order {order} is {'on its way' if shipped else 'waiting for another card'}"


def place_order(connection: psycopg.Connection[tuple[int]], card: str) -> int:
    """Insert an order and defer its jobs, in the caller's transaction."""
    row = connection.execute("INSERT INTO orders (card) VALUES (%s) RETURNING id", (card,)).fetchone()
    if row is None:
        raise LookupError("the order was not inserted")
    (order,) = row
    paid = charge.configure(connection=connection).defer(order=order, card=card)
    packed = pack.configure(connection=connection).defer(order=order)
    shipped = ship.configure(connection=connection, depends_on=[paid, packed]).defer(order=order)
    tell_customer.configure(connection=connection, depends_on=shipped).defer(order=order)
    return order
