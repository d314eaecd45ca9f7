"""`dashboard`: that it serves, says where, and ends."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.integration.cli_process import DEADLINE_S, PROGRAM, Cli, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))


@contextlib.contextmanager
def served(cli: Cli, *arguments: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it gives."""
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, "dashboard", "--port", "0", *arguments],
        cwd=cli.folder,
        env=cli.env | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("The dashboard is at http://"), line + process.communicate()[1]
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_also_while_a_page_listens(cli: Cli, number: signal.Signals) -> None:
    job_id = cli.id("charge", '{"order": 7}')
    with served(cli) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert "order=7" in httpx.get(f"{address}/jobs").text
        assert httpx.get(f"{address}/api/jobs/{job_id}").json()["job"]["task_kwargs"] == {"order": 7}
        heard, ended = threading.Event(), threading.Event()

        def listen() -> None:
            with httpx.stream("GET", f"{address}/live", timeout=DEADLINE_S) as stream:
                for line in stream.iter_lines():
                    if line.startswith("event: "):
                        heard.set()
            ended.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert heard.wait(DEADLINE_S)
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE_S)
        listener.join(DEADLINE_S)
        assert (process.returncode, ended.is_set()) == (0, True), errors
        assert "Traceback" not in errors
        assert "rror" not in errors


def test_it_only_shows_unless_told_otherwise(cli: Cli) -> None:
    cli.id("charge", '{"order": 7, "card": "4111-1111"}')
    with served(cli) as (_, address):
        page = httpx.get(f"{address}/jobs").text
        assert "Select all jobs" not in page
        assert "4111-1111" in page
    with served(cli, "--allow-actions", "--hide", "CARD", "--title", "Shop & Co") as (_, address):
        page = httpx.get(f"{address}/jobs").text
        assert "Select all jobs" in page
        assert "4111-" not in page
        assert "Shop &amp; Co" in page


def test_other_addresses_need_a_password(cli: Cli) -> None:
    refused = cli.run("dashboard", "--host", "0.0.0.0", "--port", "0")
    assert refused.status == 2
    assert "--host 0.0.0.0 can be reached by others: give a password" in " ".join(refused.err.split())
    with served(cli, "--host", "0.0.0.0", PROCRASTINATE_DEPS_DASHBOARD_PASSWORD="sesame") as (_, address):
        address = address.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{address}/jobs").status_code == 303
        assert httpx.get(f"{address}/api/jobs").status_code == 401
        assert httpx.get(f"{address}/api/jobs", auth=("", "sesame")).status_code == 200
    with served(cli, "--allowed-host", "jobs.example") as (_, address):
        assert httpx.get(f"{address}/workers").status_code == 400
        assert httpx.get(f"{address}/workers", headers={"host": "jobs.example"}).status_code == 200


def test_what_goes_wrong_at_the_start_is_said_in_one_line(cli: Cli, dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = cli.run("dashboard", "--port", str(port), "--log-level", "warning").error
        assert f"can't listen on 127.0.0.1, port {port}: Address already in use; give another --port" in error
    error = cli.run(
        "dashboard", "--port", "0", "--log-level", "error", PROCRASTINATE_DEPS_DSN=dsn.replace("/test_", "/no_")
    ).error
    assert "does not exist" in error
