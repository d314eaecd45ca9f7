"""Write the frozen text of a migration that makes everything: `python migrations/freeze.py 0001`.

Only for a migration that no release has shipped yet. It puts sql/schema and sql/functions as they are now into the
migration's .sql file, and the statements that drop it all again into its .down.sql file.
"""

import re
import sys
from pathlib import Path

from procrastinate_deps.sql import DEFAULT_SCHEMA, schema_script

VERSIONS = Path(__file__).parent / "versions"

# functions first: what they return and take are tables and types. Their triggers go with them.
DROPS = (
    ("FUNCTION", " CASCADE", rf"^CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) ({DEFAULT_SCHEMA}\.\w+)"),
    ("VIEW", "", rf"^CREATE (?:OR REPLACE )?VIEW ({DEFAULT_SCHEMA}\.\w+)"),
    ("TABLE", "", rf"^CREATE (?:UNLOGGED )?TABLE ({DEFAULT_SCHEMA}\.\w+)"),
    ("SEQUENCE", "", rf"^CREATE SEQUENCE ({DEFAULT_SCHEMA}\.\w+)"),
    ("TYPE", "", rf"^CREATE TYPE ({DEFAULT_SCHEMA}\.\w+)"),
)


def drops(script: str) -> str:
    """What drops everything that the script creates: tables in one statement, since they refer to each other."""
    statements = []
    for kind, how, pattern in DROPS:
        names = sorted(set(re.findall(pattern, script, re.MULTILINE)))
        if names:
            statements.append(f"DROP {kind} " + ",\n    ".join(names) + how + ";")
    return "\n".join(statements) + "\n"


def freeze(revision: str) -> None:
    found = list(VERSIONS.glob(f"{revision}_*.py"))
    if len(found) != 1:
        raise SystemExit(f"there is no one migration {revision} in {VERSIONS}")
    script = schema_script()
    found[0].with_suffix(".sql").write_text(script, "utf-8")
    found[0].with_suffix(".down.sql").write_text(drops(script), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    freeze(sys.argv[1])
