-- A number that changes when rows of these tables do: the server's own counts of writes, which cost nothing to read.
SELECT
    sum(
        pg_catalog.pg_stat_get_tuples_inserted(class.oid)
        + pg_catalog.pg_stat_get_tuples_updated(class.oid)
        + pg_catalog.pg_stat_get_tuples_deleted(class.oid)
    )::bigint
FROM pg_catalog.pg_class AS class
INNER JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE
    namespace.nspname = 'procrastinate_deps'
    AND class.relname IN ('jobs', 'job_dependencies', 'job_progress', 'workers', 'workflows', 'paused_queues')
