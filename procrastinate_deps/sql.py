"""The SQL files, with the configured schema put in the place of the name that they are written with."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_SCHEMA = "procrastinate_deps"
MAX_NAME_BYTES = 63  # PostgreSQL cuts longer names silently

_HERE = Path(__file__).parent
_SCHEMA_WORD = re.compile(rf"'?\b{DEFAULT_SCHEMA}\b'?")


def find_folder(packaged: str, checkout: str) -> Path:
    """A folder that stands at the top of the repository and is shipped inside the package."""
    for folder in (_HERE / packaged, _HERE.parent / checkout):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"procrastinate_deps is not installed completely: neither {_HERE / packaged} nor {_HERE.parent / checkout} is "
        "there; reinstall it"
    )


def check_schema_name(schema: str) -> str:
    """`schema`, refused when it can't be the name of a PostgreSQL schema and of a notification channel."""
    if not schema:
        raise ValueError(f"schema={schema!r}: pass a name, as in {DEFAULT_SCHEMA!r}")
    if len(schema.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"schema={schema!r} has {len(schema.encode())} bytes; PostgreSQL's names have at most {MAX_NAME_BYTES}"
        )
    if schema.startswith("pg_"):
        raise ValueError(f"schema={schema!r}: PostgreSQL keeps names that start with pg_ to itself")
    # a dollar sign would end the dollar-quoted bodies of functions, a control character the comments
    if "$" in schema or not schema.isprintable():
        raise ValueError(f"schema={schema!r}: a dollar sign or an unprintable character can't be part of the name")
    return schema


def quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def qualify(text: str, schema: str) -> str:
    """`text` with `schema` in the place of `procrastinate_deps`: as a name, or in a string as what the string means."""
    identifier = quote_identifier(schema)

    def put(match: re.Match[str]) -> str:
        opened, closed = match[0].startswith("'"), match[0].endswith("'")
        if not opened:
            return identifier + ("'" if closed else "")
        # 'procrastinate_deps' is the bare name, 'procrastinate_deps.jobs' the text of a qualified one
        return "'" + (schema if closed else identifier).replace("'", "''") + ("'" if closed else "")

    return _SCHEMA_WORD.sub(put, text)


@lru_cache(maxsize=16)
def queries(schema: str) -> Mapping[str, str]:
    """The statements of sql/queries by name."""
    folder = find_folder("_sql", "sql") / "queries"
    return MappingProxyType(
        {file.stem: qualify(file.read_text("utf-8"), schema) for file in sorted(folder.glob("*.sql"))}
    )


def schema_script() -> str:
    """Everything that the schema consists of, as sql/schema and sql/functions have it now, not qualified yet."""
    folder = find_folder("_sql", "sql")
    files = sorted((folder / "schema").glob("*.sql")) + sorted((folder / "functions").glob("*.sql"))
    # functions call each other, whatever the order that they are created in
    return "\n".join(["SET LOCAL check_function_bodies = off;", *(file.read_text("utf-8") for file in files)])
