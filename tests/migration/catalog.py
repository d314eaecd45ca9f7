"""Everything that a schema consists of, as the catalog describes it, in a form that two schemas can be compared by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

# Each gives text only, with the schema's own name taken out, so that schemas of different names can be compared, too.
QUERIES = {
    "relations": """
        SELECT c.relname, c.relkind, c.relpersistence, c.reloptions::text, c.relacl::text, c.relrowsecurity
        FROM pg_class AS c WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind <> 'c'""",
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
            a.attgenerated, pg_get_expr(d.adbin, d.adrelid), l.collname, a.attstorage
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        WHERE c.relnamespace = %(schema)s::regnamespace AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraints": """
        SELECT c.relname, k.conname, k.contype, pg_get_constraintdef(k.oid), k.convalidated, k.condeferrable
        FROM pg_constraint AS k LEFT JOIN pg_class AS c ON c.oid = k.conrelid
        WHERE k.connamespace = %(schema)s::regnamespace""",
    "indexes": """
        SELECT c.relname, pg_get_indexdef(c.oid), c.reloptions::text, i.indisvalid
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE c.relnamespace = %(schema)s::regnamespace""",
    "functions": """
        SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text, obj_description(p.oid)
        FROM pg_proc AS p WHERE p.pronamespace = %(schema)s::regnamespace""",
    "triggers": """
        SELECT c.relname, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid)
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = %(schema)s::regnamespace AND NOT t.tgisinternal""",
    "enums": """
        SELECT t.typname, array_agg(e.enumlabel ORDER BY e.enumsortorder)::text, t.typacl::text
        FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid
        WHERE t.typnamespace = %(schema)s::regnamespace GROUP BY t.oid""",
    "views": """
        SELECT c.relname, pg_get_viewdef(c.oid)
        FROM pg_class AS c WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('v', 'm')""",
    "sequences": """
        SELECT c.relname, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqcache, s.seqcycle
        FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid
        WHERE c.relnamespace = %(schema)s::regnamespace""",
}

VERSION_TABLE = "alembic_version"


def catalog(connection: psycopg.Connection[Any], schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the schema consists of, the version table left out."""
    name = '"' + schema.replace('"', '""') + '"'
    # with nothing on the path every name is given with its schema, wherever it stands
    connection.execute("SET search_path = pg_catalog")
    found = {}
    for kind, query in QUERIES.items():
        rows = connection.execute(query.encode(), {"schema": name}).fetchall()
        without = [tuple(_anonymous(value, schema) for value in row) for row in rows]
        found[kind] = sorted((row for row in without if VERSION_TABLE not in str(row[0])), key=repr)
    return found


def _anonymous(value: Any, schema: str) -> Any:
    if not isinstance(value, str):
        return value
    quoted = '"' + schema.replace('"', '""') + '"'
    written = (quoted.replace("'", "''"), schema.replace("'", "''"), quoted, schema)
    # not as part of a longer word: procrastinate_deps_internal is a setting's name in every schema
    return re.sub("|".join(rf"(?<!\w){re.escape(way)}(?!\w)" for way in written), "<schema>", value)
