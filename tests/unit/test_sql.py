"""The schema's name in the SQL files."""

from __future__ import annotations

import pytest

from procrastinate_deps.sql import check_schema_name, qualify


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("procrastinate_deps.jobs", '"my-Jobs".jobs'),
        ("x=procrastinate_deps.f(1)", 'x="my-Jobs".f(1)'),
        ("'procrastinate_deps'", "'my-Jobs'"),
        ("to_regclass('procrastinate_deps.jobs')", "to_regclass('\"my-Jobs\".jobs')"),
        ("procrastinate_deps_internal.settling", "procrastinate_deps_internal.settling"),
        ("my_procrastinate_deps", "my_procrastinate_deps"),
    ],
)
def test_the_name_is_put_in_its_place(text: str, expected: str) -> None:
    assert qualify(text, "my-Jobs") == expected


def test_quotes_in_the_name() -> None:
    assert qualify("procrastinate_deps.f('procrastinate_deps', 'procrastinate_deps.jobs')", "a'b\"c") == (
        """"a'b""c".f('a''b"c', '"a''b""c".jobs')"""
    )


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "a$b", "a\nb", "pg_jobs", "a\x00b"])
def test_names_that_can_not_be(name: str) -> None:
    with pytest.raises(ValueError, match="schema="):
        check_schema_name(name)


@pytest.mark.parametrize("name", ["x" * 63, "my-Jobs", "select", "a'b\"c", "Schéma"])
def test_names_that_can(name: str) -> None:
    assert check_schema_name(name) == name
