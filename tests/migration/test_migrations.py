"""The migrations: they make what sql/ says, from nothing, once, in any schema, and can be undone."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from procrastinate_deps import jobs, statements
from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import ConnectorException, SchemaNotReady
from procrastinate_deps.schema import SchemaManager
from procrastinate_deps.sql import qualify, quote_identifier, schema_script
from tests.migration.catalog import catalog

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "procrastinate_deps"
ODD_SCHEMA = """my-Jobs's "odd" name"""


def manager(dsn: str, schema: str = SCHEMA) -> SchemaManager:
    return SchemaManager(SyncPsycopgConnector(conninfo=dsn, schema=schema))


def described(dsn: str, schema: str = SCHEMA) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return catalog(connection, schema)


def apply_files(dsn: str, schema: str = SCHEMA) -> None:
    """What sql/ says, without any migration."""
    with psycopg.connect(dsn) as connection:
        connection.execute(f"CREATE SCHEMA {quote_identifier(schema)}".encode())
        connection.execute(qualify(schema_script(), schema).encode())


def test_migrating_from_nothing_equals_applying_the_files(empty_dsn: str, other_empty_dsn: str) -> None:
    manager(empty_dsn).apply()
    apply_files(other_empty_dsn)

    migrated, applied = described(empty_dsn), described(other_empty_dsn)

    assert len(applied["functions"]) > 20
    assert len(applied["columns"]) > 40
    for kind in applied:
        assert migrated[kind] == applied[kind], f"{kind}: run `python migrations/freeze.py 0001` until it is released"


def test_comparing_by_catalog_sees_a_difference(empty_dsn: str, other_empty_dsn: str) -> None:
    for dsn in (empty_dsn, other_empty_dsn):
        apply_files(dsn)
    changes = {
        "columns": "ALTER TABLE procrastinate_deps.jobs ALTER priority SET DEFAULT 1",
        "constraints": "ALTER TABLE procrastinate_deps.jobs DROP CONSTRAINT jobs_queue_length",
        "indexes": "DROP INDEX procrastinate_deps.jobs_ended",
        "relations": "ALTER TABLE procrastinate_deps.jobs SET (fillfactor = 50)",
        "functions": "ALTER FUNCTION procrastinate_deps.pause_key SET work_mem = '1MB'",
        "triggers": "ALTER TABLE procrastinate_deps.jobs DISABLE TRIGGER USER",
        "enums": "ALTER TYPE procrastinate_deps.job_gate ADD VALUE 'other'",
    }
    for kind, change in changes.items():
        before = described(empty_dsn)[kind]
        with psycopg.connect(empty_dsn, autocommit=True) as connection:
            connection.execute(change.encode())
        assert described(empty_dsn)[kind] != before, change


@pytest.mark.parametrize(
    ("type_name", "python_enum"),
    [
        ("job_status", jobs.Status),
        ("run_when", RunWhen),
        ("cancel_kind", jobs.CancelKind),
        ("job_gate", jobs.Gate),
    ],
)
def test_python_enums_equal_database_enums(dsn: str, type_name: str, python_enum: Any) -> None:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT enumlabel FROM pg_enum WHERE enumtypid = %s::regtype ORDER BY enumsortorder",
            [f"{SCHEMA}.{type_name}"],
        ).fetchall()
    assert [row[0] for row in rows] == [member.value for member in python_enum]


def test_downgrade_leaves_nothing_and_upgrade_makes_it_again(empty_dsn: str) -> None:
    migrations = manager(empty_dsn)
    migrations.apply()
    first = described(empty_dsn)
    assert migrations.current() == migrations.head()

    migrations.downgrade("base")

    assert {kind: rows for kind, rows in described(empty_dsn).items() if rows} == {}
    assert migrations.current() is None
    migrations.apply()
    assert described(empty_dsn) == first


def test_downgrade_does_not_drop_what_it_did_not_make(empty_dsn: str) -> None:
    migrations = manager(empty_dsn)
    migrations.apply()
    with psycopg.connect(empty_dsn) as connection:
        connection.execute("CREATE VIEW public.mine AS SELECT id FROM procrastinate_deps.jobs")

    with pytest.raises(ConnectorException, match="nothing of it was kept"):
        migrations.downgrade("base")

    assert migrations.current() == migrations.head()
    migrations.check()


def test_applying_twice_changes_nothing(empty_dsn: str) -> None:
    migrations = manager(empty_dsn)
    migrations.apply()
    first = described(empty_dsn)
    migrations.apply()
    assert described(empty_dsn) == first


async def test_two_migrates_at_once(empty_dsn: str) -> None:
    """Each in a session of its own: the second waits for the first, and finds nothing left to do."""
    script = "import sys; from tests.migration.test_migrations import manager; manager(sys.argv[1]).apply()"
    import sys

    async def migrate() -> None:
        await anyio.run_process([sys.executable, "-c", script, empty_dsn])

    with psycopg.connect(empty_dsn) as blocker:
        # both wait here, so that they are released at the same moment
        blocker.execute(qualify((await _lock_statement()), SCHEMA).encode())
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(migrate)
            await _until_waiting(empty_dsn, 2)
            blocker.rollback()

    manager(empty_dsn).check()


async def _lock_statement() -> str:
    from procrastinate_deps.sql import queries

    return queries(SCHEMA)["migration_lock"]


async def _until_waiting(dsn: str, count: int) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        with anyio.fail_after(60):
            while True:
                cursor = await connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"
                    " AND datname = current_database()"
                )
                row = await cursor.fetchone()
                if row is not None and row[0] == count:
                    return
                await anyio.sleep(0.02)


def test_printed_sql_gives_the_same_by_psql(empty_dsn: str, other_empty_dsn: str) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("needs psql")
    script = manager(empty_dsn).sql()

    subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", empty_dsn], input=script, text=True, check=True, timeout=60
    )
    manager(other_empty_dsn).apply()

    assert described(empty_dsn) == described(other_empty_dsn)
    manager(empty_dsn).check()


@pytest.mark.parametrize("schema", ["my-Jobs", ODD_SCHEMA, "select"])
def test_a_schema_name_that_needs_quoting(empty_dsn: str, other_empty_dsn: str, schema: str) -> None:
    migrations = manager(empty_dsn, schema)
    migrations.apply()
    migrations.check()
    manager(other_empty_dsn).apply()

    assert described(empty_dsn, schema) == described(other_empty_dsn)
    with SyncPsycopgConnector(conninfo=empty_dsn, schema=schema) as connector:
        [job_id] = connector.execute(statements.defer_jobs([jobs.JobSpec(task_name="a")]))
        assert connector.execute(statements.get_job_status(job_id)) == "todo"
    migrations.downgrade("base")
    assert migrations.current() is None


def test_two_schemas_in_one_database(empty_dsn: str) -> None:
    ids = {}
    for schema in (SCHEMA, ODD_SCHEMA):
        manager(empty_dsn, schema).apply()
        with SyncPsycopgConnector(conninfo=empty_dsn, schema=schema) as connector:
            spec = jobs.JobSpec(task_name=schema, queueing_lock="same", lock="same")
            [ids[schema]] = connector.execute(statements.defer_jobs([spec]))
            worker = connector.execute(statements.register_worker("w", "h", 1, None, 1, "0"))
            [job] = connector.execute(statements.fetch_jobs(None, worker, 10))
            assert (job.id, job.task_name) == (ids[schema], schema)

    manager(empty_dsn, SCHEMA).downgrade("base")

    with SyncPsycopgConnector(conninfo=empty_dsn, schema=ODD_SCHEMA) as connector:
        assert connector.execute(statements.get_job_status(ids[ODD_SCHEMA])) == "doing"


def test_nothing_depends_on_the_search_path(empty_dsn: str) -> None:
    odd = f"{empty_dsn}&options=-c%20search_path%3Dpg_temp"
    manager(odd).apply()
    with SyncPsycopgConnector(conninfo=odd) as connector:
        connector.execute(statements.defer_jobs([jobs.JobSpec(task_name="a")]))
    assert described(empty_dsn)["functions"]


def test_an_owner_of_the_schema_needs_no_right_to_create_one(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE migrator LOGIN")
        try:
            connection.execute("CREATE SCHEMA procrastinate_deps AUTHORIZATION migrator")
            migrations = manager(empty_dsn.replace("postgres@", "migrator@"))
            migrations.apply()
            migrations.check()
        finally:
            connection.execute("DROP SCHEMA procrastinate_deps CASCADE")
            connection.execute("DROP OWNED BY migrator; DROP ROLE migrator")


def test_history_and_head_are_alembics_own() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from procrastinate_deps.sql import find_folder

    config = Config()
    config.set_main_option("script_location", str(find_folder("_migrations", "migrations")))
    scripts = ScriptDirectory.from_config(config)
    migrations = manager("")

    assert migrations.head() == scripts.get_current_head()
    assert [known.id for known in migrations.history()] == [
        script.revision for script in reversed(list(scripts.walk_revisions()))
    ]


# Refusals


def _missing(dsn: str) -> None:
    manager(dsn).downgrade("base")


def _never_there(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP SCHEMA procrastinate_deps CASCADE")


def _old(dsn: str) -> None:
    _set_revision(dsn, "0000")


def _new(dsn: str) -> None:
    _set_revision(dsn, "9999")


def _set_revision(dsn: str, revision: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE procrastinate_deps.alembic_version SET version_num = %s", [revision])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(_missing, "no schema"), (_never_there, "no schema"), (_old, "older than"), (_new, "newer than this program")],
)
async def test_a_schema_that_is_not_right_is_refused(
    dsn: str, spoil: Callable[[str], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = SchemaManager.history
    with_an_older_one = [jobs_revision("0000"), *history(manager(dsn))]
    monkeypatch.setattr(SchemaManager, "history", lambda self: with_an_older_one)
    manager(dsn).check()
    spoil(dsn)

    with pytest.raises(SchemaNotReady, match=message) as refused:
        manager(dsn).check()
    assert "python -m procrastinate_deps migrate" in str(refused.value)
    for connector in (PsycopgConnector(conninfo=dsn), AsyncpgConnector(dsn)):
        async with connector:
            with pytest.raises(SchemaNotReady, match=message):
                await SchemaManager(connector).check_async()


def jobs_revision(id_: str) -> Any:
    from procrastinate_deps.schema import Revision

    return Revision(id_, "made up")


async def test_any_statement_on_a_missing_schema_names_the_command(empty_dsn: str) -> None:
    for connector in (PsycopgConnector(conninfo=empty_dsn), AsyncpgConnector(empty_dsn)):
        async with connector:
            with pytest.raises(SchemaNotReady, match="python -m procrastinate_deps migrate"):
                await connector.execute_async(statements.list_jobs())
            assert await connector.execute_async(statements.check_connection()) is False


async def test_async_twins(empty_dsn: str) -> None:
    connector = AsyncpgConnector(empty_dsn)
    migrations = SchemaManager(connector)
    assert await migrations.current_async() is None
    await migrations.apply_async()
    assert await migrations.current_async() == migrations.head()
    async with connector:
        await migrations.check_async()
    await migrations.downgrade_async("base")
    assert await migrations.current_async() is None


def test_an_unknown_revision_is_refused(empty_dsn: str) -> None:
    with pytest.raises(SchemaNotReady, match="nonsense"):
        manager(empty_dsn).apply("nonsense")
    assert manager(empty_dsn).current() is None


def test_a_database_that_is_newer_is_not_migrated(dsn: str) -> None:
    _new(dsn)
    with pytest.raises(SchemaNotReady, match="9999"):
        manager(dsn).apply()


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Any) -> None:
    migrations = manager(f"host={tmp_path} user=someone password=s3cret dbname=d")
    with pytest.raises(ConnectorException, match="user=someone") as refused:
        migrations.apply()
    assert "s3cret" not in str(refused.value)
