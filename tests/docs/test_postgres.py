"""docs/postgres.md: what it shows works as it stands, and its numbers are those of the code."""

from __future__ import annotations

import configparser
import re
from typing import TYPE_CHECKING

from procrastinate_deps.connectors import base, dsn
from procrastinate_deps.worker import exchange, finisher, listener, options, state
from tests.docs.pages import REPOSITORY, block, follow
from tests.integration import poolers

if TYPE_CHECKING:
    from pathlib import Path

    from procrastinate_deps._embedded.cluster import Cluster

PAGE = "docs/postgres.md"
TEXT = (REPOSITORY / PAGE).read_text()


def test_the_example_behind_pgbouncer(server: Cluster, empty_dsn: str, tmp_path: Path) -> None:
    with poolers.pgbouncer(server) as pooler:
        done = follow(PAGE, tmp_path, POOLER_DSN=pooler.through(empty_dsn), DIRECT_DSN=empty_dsn)
    output = done[-1][1].stdout
    assert output.count("succeeded") == 1


def test_the_pooler_is_one_that_the_page_is_about() -> None:
    shown = configparser.ConfigParser()
    shown.read_string(block(PAGE, "ini"))
    assert shown["pgbouncer"]["pool_mode"] == "transaction"
    tested = (REPOSITORY / "tests" / "integration" / "poolers.py").read_text()
    assert "ignore_startup_parameters" not in tested, "the tests must run with what PgBouncer refuses by default"


def test_the_failover_address_is_understood() -> None:
    [address] = re.findall(r"^postgresql://.*$", TEXT, re.MULTILINE)
    assert dsn.asyncpg_hosts(address, {}) == [{"host": "db1.example"}, {"host": "db2.example"}]
    assert "target_session_attrs=read-write" in dsn.asyncpg_arguments(address)["dsn"]


def test_the_numbers() -> None:
    limits = dsn.defaults({})
    assert f"`keepalives_idle` ({limits['keepalives_idle']})" in TEXT
    assert f"`keepalives_interval` ({limits['keepalives_interval']})" in TEXT
    assert f"`keepalives_count` ({limits['keepalives_count']})" in TEXT
    assert f"`tcp_user_timeout` ({limits['tcp_user_timeout']}, in ms" in TEXT
    idle = (limits["keepalives_idle"], limits["keepalives_interval"], limits["keepalives_count"])
    first, step, count = (int(each) for each in idle)
    assert f"| an idle connection, by TCP | {first + step * count} s |" in TEXT
    assert f"| connecting, for each host | {dsn.CONNECT_TIMEOUT_S} s |" in TEXT
    heartbeat_s = (options.STALLED_TIMEOUT_S - options.HEARTBEAT_INTERVAL_S) / 2
    assert f"| the answer to a worker's heartbeat | {heartbeat_s:g} s |" in TEXT
    assert f"| the answer to any other statement of a worker | {options.STALLED_TIMEOUT_S:g} s |" in TEXT
    assert f"sends to itself | {listener.ECHO_WITHIN_S:g} s, once a minute |" in TEXT
    assert listener.PROBE_AFTER_S == 60
    assert f"at its next attempt, up to {state.MAX_PATIENCE} times" in TEXT
    assert f"once {finisher.MAX_FRESH:,} ends wait" in TEXT
    again = f"after {exchange.ERROR_RETRY_FIRST_S:g} s, then after up to twice as long each\ntime"
    assert again in TEXT
    assert f"at most {exchange.ERROR_RETRY_LIMIT_S:g} s" in TEXT
    assert (base.POOL_MIN_SIZE, base.POOL_MAX_SIZE) == (1, 10)
    assert f"every {options.FETCH_POLL_INTERVAL_S:g} s\n(`--fetch-job-polling-interval`)" in TEXT


def test_what_it_names_exists() -> None:
    for path in re.findall(r"`(tests/[\w/]+\.py)`", TEXT):
        assert (REPOSITORY / path).exists()
    for action in re.findall(r"`action`\s+`(\w+)`", TEXT):
        found = [
            file for file in (REPOSITORY / "procrastinate_deps").rglob("*.py") if f'"{action}"' in file.read_text()
        ]
        assert found, action
