-- How many jobs there are of each kind, counted up to a cap: each branch reads the entries of one partial index, and no
-- more than the cap and one; each has its index' order, without which the whole table might be read to find them. What is above it is estimated from what the last ANALYZE and VACUUM found.
WITH counted AS (
    SELECT 'blocked' AS kind, count(*) AS jobs
    FROM (SELECT FROM procrastinate_deps.job_blocks ORDER BY job_id LIMIT $1::bigint + 1) AS few
    UNION ALL
    SELECT 'ready', count(*)
    FROM (
        SELECT
        FROM procrastinate_deps.jobs
        WHERE status = 'todo' AND gate IS NULL
        ORDER BY queue, ~priority, id
        LIMIT $1 + 1
    ) AS few
    UNION ALL
    SELECT 'scheduled', count(*)
    FROM (
        SELECT
        FROM procrastinate_deps.jobs
        WHERE status = 'todo' AND gate = 'scheduled'
        ORDER BY scheduled_at
        LIMIT $1 + 1
    ) AS few
    UNION ALL
    SELECT 'locked', count(*)
    FROM (
        SELECT
        FROM procrastinate_deps.jobs
        WHERE status = 'todo' AND lock IS NOT NULL AND gate IS DISTINCT FROM 'scheduled' AND gate = 'lock'
        ORDER BY lock, priority DESC, id
        LIMIT $1 + 1
    ) AS few
    UNION ALL
    SELECT 'doing', count(*)
    FROM (SELECT FROM procrastinate_deps.jobs WHERE status = 'doing' ORDER BY worker_id LIMIT $1 + 1) AS few
    UNION ALL
    SELECT ended.status::text, few.jobs
    FROM (
        VALUES
        ('succeeded'::procrastinate_deps.job_status), ('failed'::procrastinate_deps.job_status),
        ('cancelled'::procrastinate_deps.job_status), ('aborted'::procrastinate_deps.job_status)
    ) AS ended (status)
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs
        FROM (
            SELECT
            FROM procrastinate_deps.jobs AS job
            WHERE job.status = ended.status AND job.finished_at IS NOT NULL
            ORDER BY job.finished_at
            LIMIT $1 + 1
        ) AS capped
    ) AS few
),
shares AS (
    SELECT common.status, common.share / sum(common.share) OVER () AS share
    FROM pg_catalog.pg_stats AS statistics
    CROSS JOIN LATERAL unnest(
        statistics.most_common_vals::text::text[], statistics.most_common_freqs
    ) AS common (status, share)
    WHERE
        statistics.schemaname = 'procrastinate_deps'
        AND statistics.tablename = 'jobs'
        AND statistics.attname = 'status'
        AND common.status IN ('succeeded', 'failed', 'cancelled', 'aborted')
)
SELECT
    counted.kind,
    least(counted.jobs, $1),
    CASE
        WHEN counted.jobs > $1
            THEN greatest(counted.jobs, coalesce(share.share, 1) * (
                SELECT class.reltuples
                FROM pg_catalog.pg_class AS class
                WHERE class.oid = CASE counted.kind
                    WHEN 'blocked' THEN 'procrastinate_deps.job_blocks'::regclass
                    WHEN 'ready' THEN 'procrastinate_deps.jobs_fetch'::regclass
                    WHEN 'scheduled' THEN 'procrastinate_deps.jobs_scheduled'::regclass
                    WHEN 'locked' THEN 'procrastinate_deps.jobs_lock_line'::regclass
                    WHEN 'doing' THEN 'procrastinate_deps.jobs_doing'::regclass
                    ELSE 'procrastinate_deps.jobs_ended'::regclass
                END
            ))::bigint
    END
FROM counted
LEFT JOIN shares AS share ON share.status = counted.kind
