-- What others want to know of changed jobs, whoever changed them: by how much the counts of their workflows changed, and
-- that a job has ended which somebody waits for. Adds rows and updates none, so that no finish waits because of it.
-- Neither a claim nor a retry changes a count: only the first claim of a workflow is noted.
CREATE FUNCTION procrastinate_deps.observe_job_updates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    revived bigint[];
    settling text;
BEGIN
    IF EXISTS (SELECT FROM new_rows WHERE workflow_id IS NOT NULL) THEN
        WITH change AS (
            -- the rows that are there now less those that were: nothing has to be joined
            SELECT
                r.workflow_id,
                min(r.started_at) AS started,
                sum(r.n * (r.status = 'blocked')::integer) AS blocked,
                sum(r.n * (r.status = 'succeeded')::integer) AS succeeded,
                sum(r.n * (r.status = 'failed')::integer) AS failed,
                sum(r.n * (r.status = 'aborted')::integer) AS aborted,
                sum(r.n * (r.cancel_kind IS NOT DISTINCT FROM 'manual')::integer) AS cancelled,
                sum(r.n * (r.cancel_kind IS NOT DISTINCT FROM 'upstream')::integer) AS upstream,
                sum(r.n * (r.cancel_kind IS NOT DISTINCT FROM 'not_needed')::integer) AS not_needed
            FROM (
                SELECT 1 AS n, workflow_id, status, cancel_kind, CASE WHEN status = 'doing' THEN started_at END AS started_at
                FROM new_rows
                WHERE workflow_id IS NOT NULL
                UNION ALL
                SELECT -1, workflow_id, status, cancel_kind, NULL
                FROM old_rows
                WHERE workflow_id IS NOT NULL
            ) AS r
            GROUP BY r.workflow_id
        ),
        noted AS (
            INSERT INTO procrastinate_deps.workflow_deltas
                (workflow_id, started, blocked, succeeded, failed, aborted, cancelled, upstream, not_needed)
            SELECT
                w.id, min(c.started) FILTER (WHERE w.started_at IS NULL), sum(c.blocked), sum(c.succeeded), sum(c.failed),
                sum(c.aborted), sum(c.cancelled), sum(c.upstream), sum(c.not_needed)
            FROM change AS c
            -- OFFSET 0: look-ups, see count_ends
            CROSS JOIN LATERAL (
                SELECT x.path FROM procrastinate_deps.workflows AS x WHERE x.id = c.workflow_id OFFSET 0
            ) AS leaf
            CROSS JOIN LATERAL unnest(leaf.path) AS p (id)
            CROSS JOIN LATERAL (
                SELECT x.id, x.started_at FROM procrastinate_deps.workflows AS x WHERE x.id = p.id OFFSET 0
            ) AS w
            GROUP BY w.id
            HAVING bool_or(c.blocked <> 0 OR c.succeeded <> 0 OR c.failed <> 0 OR c.aborted <> 0 OR c.cancelled <> 0
                OR c.upstream <> 0 OR c.not_needed <> 0 OR (c.started IS NOT NULL AND w.started_at IS NULL))
            RETURNING workflow_id, succeeded + failed + aborted + cancelled + upstream + not_needed AS ended
        )
        SELECT array_agg(n.workflow_id) INTO revived FROM noted AS n WHERE n.ended < 0;
        IF revived IS NOT NULL THEN
            settling := procrastinate_deps.start_settling(true);
            PERFORM procrastinate_deps.hold_workflows(revived);
            PERFORM procrastinate_deps.stop_settling(settling);
        END IF;
    END IF;
    IF EXISTS (SELECT FROM procrastinate_deps.job_waits) THEN
        PERFORM pg_notify('procrastinate_deps', json_build_object(
            'type', 'job_ended', 'job_id', n.id, 'status', n.status)::text)
        FROM new_rows AS n
        WHERE n.finished_at IS NOT NULL
            AND EXISTS (SELECT FROM procrastinate_deps.job_waits AS w WHERE w.job_id = n.id AND w.until > now());
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER observe_job_updates AFTER UPDATE ON procrastinate_deps.jobs
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_deps.observe_job_updates();
