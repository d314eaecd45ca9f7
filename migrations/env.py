"""Alembic's entry: `procrastinate_deps.schema` runs it, with the schema and the connection as attributes."""

from alembic import context

from procrastinate_deps.schema import execute_script
from procrastinate_deps.sql import qualify, queries

config = context.config
if "schema" not in config.attributes:
    raise SystemExit("run the migrations by: python -m procrastinate_deps migrate")

schema: str = config.attributes["schema"]

# IF NOT EXISTS alone would ask for the right to create schemas, also of who migrates one that an administrator made.
CREATE_SCHEMA = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'procrastinate_deps') THEN
        CREATE SCHEMA procrastinate_deps;
    END IF;
END
$$
"""

context.configure(
    connection=config.attributes["connection"],
    dialect_name="postgresql",
    version_table=config.attributes["version_table"],
    version_table_schema=schema,
    transactional_ddl=True,
    # one transaction for all of them, so that the lock holds from the first look to the last change
    transaction_per_migration=False,
)


with context.begin_transaction():
    execute_script(context.get_context(), queries(schema)["migration_lock"])
    execute_script(context.get_context(), qualify(CREATE_SCHEMA, schema))
    context.run_migrations()
