"""docs/explain.md and docs/checking.md: what they show works as it stands, and what they name exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg

from procrastinate_deps import obstacles
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.invariants import INVARIANTS
from procrastinate_deps.verbs.checking import BATCH
from procrastinate_deps.worker.options import SWEEP_INTERVAL_S
from tests.docs.pages import REPOSITORY, block, follow
from tests.docs.test_workers import worker_options

if TYPE_CHECKING:
    from pathlib import Path

EXPLAIN, CHECKING = "docs/explain.md", "docs/checking.md"


def column(page: str, heading: str) -> list[str]:
    """The first cells of the only table whose first heading is this."""
    text = (REPOSITORY / page).read_text()
    (table,) = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [row.split("|")[1].strip().strip("`") for row in table.splitlines()]


def test_the_explanation(empty_dsn: str, tmp_path: Path) -> None:
    done = [each.stdout for _, each in follow(EXPLAIN, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)]
    status, explained, doomed = done[-3:]
    time = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")
    assert time.sub("", explained + doomed) == time.sub("", block(EXPLAIN, "text"))
    for line in block(EXPLAIN, "text").splitlines()[1:13]:
        assert time.sub("", line) in time.sub("", status)


def test_every_kind_of_obstacle_and_every_rule_is_there() -> None:
    assert column(EXPLAIN, "kind") == list(obstacles.KINDS)
    assert column(EXPLAIN, "`run_when`") == [rule.value for rule in RunWhen]


def test_the_check(empty_dsn: str, tmp_path: Path) -> None:
    outputs = [each.stdout for _, each in follow(CHECKING, tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)]
    assert outputs[1] == "healthy: True\n"
    assert outputs[2] == outputs[3] == "every invariant holds\n"
    assert '"violations": []' in outputs[4]
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute(block(CHECKING, "sql").encode()).fetchall() == []


def test_every_rule_is_listed_and_the_numbers_are_the_codes() -> None:
    assert sorted(column(CHECKING, "rule")) == sorted(INVARIANTS)
    text = (REPOSITORY / CHECKING).read_text()
    assert f"in batches of {BATCH}" in text
    assert f"Every {SWEEP_INTERVAL_S / 60:.0f} minutes" in text
    assert "--sweep-interval" in worker_options()
