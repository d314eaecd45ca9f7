"""Places three orders: one that is paid, one on a card that is declined, and one that is rolled back."""

from __future__ import annotations

import psycopg
import psycopg.conninfo
from shop import DECLINED_CARD, app, place_order


def main() -> None:
    with app.open():
        conninfo = psycopg.conninfo.make_conninfo("", **app.connector.connection_parameters())
        with psycopg.connect(conninfo) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, card text)"
            )
            connection.commit()
            with connection.transaction():
                print("order", place_order(connection, card="4242"))
                print("order", place_order(connection, card=DECLINED_CARD))
            with connection.transaction(force_rollback=True):
                print("order", place_order(connection, card="1111"), "is rolled back, and its jobs with it")


if __name__ == "__main__":
    main()
