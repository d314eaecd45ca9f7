"""The log as JSON holds whatever a record may hold."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any

import pytest

from procrastinate_deps.cli.logs import JsonFormatter


def formatted(formatter: JsonFormatter, message: str = "said", **extra: Any) -> dict[str, Any]:
    logger = logging.getLogger("some.logger")
    record = logger.makeRecord("some.logger", logging.WARNING, __file__, 1, message, (), None, extra=extra)
    line = formatter.format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_fields_of_every_record() -> None:
    found = formatted(JsonFormatter(), "two\nlines", action="act", job_id=7, nested={"a": [1, None]})
    assert datetime.fromisoformat(found.pop("time")).tzinfo is not None
    assert found == {
        "level": "warning",
        "logger": "some.logger",
        "message": "two\nlines",
        "action": "act",
        "job_id": 7,
        "nested": {"a": [1, None]},
    }


def test_what_is_no_json_is_written_as_text() -> None:
    itself: list[Any] = []
    itself.append(itself)
    for value in (object(), {(1, 2): 3}, itself, b"bytes"):
        found = formatted(JsonFormatter(), thing=value, job_id=7)
        assert found["message"] == "said"
        assert isinstance(found["thing"], str)


def test_the_worker_is_that_of_the_process_unless_the_record_says_another() -> None:
    assert "worker_name" not in formatted(JsonFormatter())
    assert formatted(JsonFormatter("w-1"))["worker_name"] == "w-1"
    assert formatted(JsonFormatter("w-1"), worker_name="other")["worker_name"] == "other"


def test_an_exception_is_a_field() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018 - raises
    logger = logging.getLogger("some.logger")
    info = (caught.type, caught.value, caught.tb)
    record = logger.makeRecord("some.logger", logging.ERROR, __file__, 1, "failed", (), info)
    assert "ZeroDivisionError: division by zero" in json.loads(JsonFormatter().format(record))["exception"]
