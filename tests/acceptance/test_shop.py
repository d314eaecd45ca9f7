"""The example project demos/shop, run as its README says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SHOP = Path(__file__).parents[2] / "demos" / "shop"


def run(dsn: str, *command: str) -> str:
    environment = os.environ | {"PROCRASTINATE_DEPS_DSN": dsn, "PROCRASTINATE_DEPS_APP": "shop.app"}
    return subprocess.run(
        [sys.executable, *command], cwd=SHOP, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout


def test_the_shop_ships_what_was_paid_and_tells_both_customers(empty_dsn: str) -> None:
    run(empty_dsn, "-m", "procrastinate_deps", "migrate")
    assert run(empty_dsn, "place_orders.py").splitlines() == [
        "order 1",
        "order 2",
        "order 3 is rolled back, and its jobs with it",
    ]
    run(empty_dsn, "-m", "procrastinate_deps", "worker", "--one-shot")
    jobs = json.loads(run(empty_dsn, "-m", "procrastinate_deps", "list-jobs", "--queue", "shop", "--format", "json"))
    ends = {(job["task_kwargs"]["order"], job["task_name"].removeprefix("shop.")): job for job in jobs}
    assert {key: job["status"] for key, job in ends.items()} == {
        (1, "charge"): "succeeded",
        (1, "pack"): "succeeded",
        (1, "ship"): "succeeded",
        (1, "tell_customer"): "succeeded",
        (2, "charge"): "failed",
        (2, "pack"): "succeeded",
        (2, "ship"): "cancelled",
        (2, "tell_customer"): "succeeded",
    }
    assert ends[2, "tell_customer"]["result"] == "your order 2 is waiting for another card"
    assert ends[2, "ship"]["cancel_reason"] == f"all_succeeded: parent {ends[2, 'charge']['id']} failed"
