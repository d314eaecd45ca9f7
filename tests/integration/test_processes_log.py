"""The one log of several worker processes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.cli_process import DEADLINE_S, PROGRAM, Cli, environment

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = ("w-1", "w-2", "w-3")
JOBS = 30
RECORDS = 20
# A pipe takes 4 KiB in one piece: these are several, and fill it.
LENGTH = 30_000
TALKER = f"""
import logging
import os
import time
from pathlib import Path

from procrastinate_deps import App

logger = logging.getLogger("talker")
app = App()

@app.task(name="talk")
def talk(letter: str) -> None:
    Path(f"here-{{os.getpid()}}").touch()
    while len(list(Path().glob("here-*"))) < {len(WORKERS)}:
        time.sleep(0.01)
    for _ in range({RECORDS}):
        logger.info("%s", letter * {LENGTH}, extra={{"by_job": letter}})

@app.task(name="fail")
def fail() -> None:
    raise ValueError("no\\nluck")
"""


def lines_of(dsn: str, folder: Path, *options: str) -> list[str]:
    """What three processes write to one pipe while they run jobs that say a lot."""
    (folder / "talker.py").write_text(TALKER)
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        for number in range(JOBS):
            app.configure_task("talk").defer(letter=chr(ord("a") + number % 26))
        app.configure_task("fail").defer()
    done = subprocess.run(
        [sys.executable, *PROGRAM, "worker", "--processes", "3", "--name", "w", "--one-shot", *options],
        cwd=folder,
        env=environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="talker.app"),
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    return done.stderr.splitlines()


def test_as_json_every_line_is_an_object_that_names_its_worker(dsn: str, tmp_path: Path) -> None:
    records = [json.loads(line) for line in lines_of(dsn, tmp_path, "--log-format", "json", "-c", "2")]
    for record in records:
        assert {"time", "level", "logger", "message"} <= set(record)
        assert record["worker_name"] in WORKERS, record
    said = [record for record in records if record["logger"] == "talker"]
    assert len(said) == JOBS * RECORDS
    assert all(record["message"] == record["by_job"] * LENGTH for record in said)
    assert {record["worker_name"] for record in said} == set(WORKERS)
    (failure,) = [record for record in records if record.get("action") == "job_error"]
    assert failure["level"] == "error"
    assert failure["task_name"] == "fail"
    assert "Traceback" in failure["exception"]
    assert "ValueError: no\nluck" in failure["exception"]


def test_as_text_every_record_is_whole_and_names_its_worker(dsn: str, tmp_path: Path) -> None:
    lines = [line for line in lines_of(dsn, tmp_path) if " talker: " in line]
    assert len(lines) == JOBS * RECORDS
    for line in lines:
        start, _, text = line.partition(" talker: ")
        assert any(start.endswith(f" INFO    [{name}]") for name in WORKERS), start
        assert text == text[0] * LENGTH


def test_a_lone_worker_logs_as_before(dsn: str, tmp_path: Path) -> None:
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))
    assert "[" not in cli.run("worker", "--one-shot").err


@pytest.mark.parametrize("where", ["", "&port=1"], ids=["reached", "not reached"])
def test_no_password_is_logged(dsn: str, tmp_path: Path, where: str) -> None:
    secret = f"{dsn}&password=opensesame{where}"
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=secret, PROCRASTINATE_DEPS_APP="shop.app"))
    for log_format in ("text", "json"):
        done = cli.run("worker", "--one-shot", "--log-level", "debug", "--log-format", log_format)
        assert done.status == (1 if where else 0)
        assert "choose_database" in done.err or "Using the database" in done.err
        assert "opensesame" not in done.err
