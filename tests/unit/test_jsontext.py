"""Values as JSON that PostgreSQL can store, and clear errors for the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from procrastinate_deps.exceptions import InvalidArguments
from procrastinate_deps.jsontext import dump, dump_arguments, dumps_text, encode, storable_text

RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)


def test_encode_is_compact_and_keeps_characters() -> None:
    assert encode({"é": [1, None]}) == '{"é":[1,null]}'


@pytest.mark.parametrize("dumps", [encode, json.dumps])
def test_text_about_an_escape_is_not_one(dumps: Any) -> None:
    assert json.loads(dump({"a": "\\u0000", "b": "é🎉"}, dumps)) == {"a": "\\u0000", "b": "é🎉"}


@pytest.mark.parametrize("dumps", [encode, json.dumps])
@pytest.mark.parametrize("value", ["\x00", ["a\x00b"], {"a\x00": 1}, {"a": {"b": ["\x00"]}}])
def test_nul_is_refused(dumps: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="NUL"):
        dump(value, dumps)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "Out of range float|not JSON compliant"),
        (float("-inf"), "Out of range float|not JSON compliant"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        ("\ud800", "surrogate"),
        (RECURSIVE, "Circular"),
        ({(1, 2): 3}, "tuple"),
    ],
)
def test_the_task_and_the_argument_are_named(value: Any, message: str) -> None:
    with pytest.raises(InvalidArguments, match=rf"task 'pkg\.t': the argument 'bad' .*({message})") as refused:
        dump_arguments("pkg.t", {"good": 1, "bad": value}, encode)
    assert isinstance(refused.value, TypeError)
    assert isinstance(refused.value, ValueError)


def test_names_of_arguments_are_strings() -> None:
    with pytest.raises(InvalidArguments, match="the argument name 1 is not a string"):
        dump_arguments("t", {1: 2}, encode)  # type: ignore[dict-item]
    with pytest.raises(InvalidArguments, match=r"not a mapping of names to values: \[1\]"):
        dump_arguments("t", [1], encode)  # type: ignore[arg-type]


def test_bytes_become_text() -> None:
    assert dumps_text(lambda value: json.dumps(value).encode())([1]) == "[1]"
    assert dumps_text(json.dumps)([1]) == "[1]"


def test_text_is_made_storable() -> None:
    assert storable_text("a\x00b\udcffé") == "a\\x00b\\udcffé"
