"""The tables, functions and triggers of the first release. Its text is frozen: later changes are later migrations."""

from pathlib import Path

from alembic import op

from procrastinate_deps.schema import execute_file

revision = "0001"
down_revision = None

UP = Path(__file__).with_suffix(".sql")
DOWN = UP.with_name("0001_initial.down.sql")


def upgrade() -> None:
    execute_file(op.get_context(), UP)


def downgrade() -> None:
    execute_file(op.get_context(), DOWN)
