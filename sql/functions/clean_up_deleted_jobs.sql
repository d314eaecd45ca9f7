-- What a deleted job leaves behind in tables without a foreign key: its lock is handed on, its events go, it is counted no
-- more in its workflow, if that stays, and who waits for its end hears of it.
CREATE FUNCTION procrastinate_deps.clean_up_deleted_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling(true);
BEGIN
    DELETE FROM procrastinate_deps.job_events WHERE job_id IN (SELECT id FROM deleted_jobs);
    DELETE FROM procrastinate_deps.job_progress WHERE job_id IN (SELECT id FROM deleted_jobs);
    DELETE FROM procrastinate_deps.workflow_dependents WHERE child_id IN (SELECT id FROM deleted_jobs);
    IF EXISTS (SELECT FROM deleted_jobs WHERE workflow_id IS NOT NULL) THEN
        INSERT INTO procrastinate_deps.workflow_deltas
            (workflow_id, total, blocked, succeeded, failed, aborted, cancelled, upstream, not_needed)
        SELECT p.id, -sum(c.total), -sum(c.blocked), -sum(c.succeeded), -sum(c.failed), -sum(c.aborted), -sum(c.cancelled),
            -sum(c.upstream), -sum(c.not_needed)
        FROM (
            SELECT
                o.workflow_id,
                count(*) AS total,
                count(*) FILTER (WHERE o.status = 'blocked') AS blocked,
                count(*) FILTER (WHERE o.status = 'succeeded') AS succeeded,
                count(*) FILTER (WHERE o.status = 'failed') AS failed,
                count(*) FILTER (WHERE o.status = 'aborted') AS aborted,
                count(*) FILTER (WHERE o.cancel_kind = 'manual') AS cancelled,
                count(*) FILTER (WHERE o.cancel_kind = 'upstream') AS upstream,
                count(*) FILTER (WHERE o.cancel_kind = 'not_needed') AS not_needed
            FROM deleted_jobs AS o
            WHERE o.workflow_id IS NOT NULL
            GROUP BY o.workflow_id
        ) AS c
        CROSS JOIN LATERAL (
            SELECT w.path FROM procrastinate_deps.workflows AS w WHERE w.id = c.workflow_id OFFSET 0
        ) AS leaf
        CROSS JOIN LATERAL unnest(leaf.path) AS p (id)
        -- of what is nested in a workflow that is being deleted
        WHERE EXISTS (SELECT FROM procrastinate_deps.workflows AS w WHERE w.id = p.id)
        GROUP BY p.id;
    END IF;
    IF EXISTS (SELECT FROM procrastinate_deps.job_waits) THEN
        PERFORM pg_notify('procrastinate_deps', json_build_object(
            'type', 'job_ended', 'job_id', o.id, 'status', 'deleted')::text)
        FROM deleted_jobs AS o
        WHERE EXISTS (SELECT FROM procrastinate_deps.job_waits AS w WHERE w.job_id = o.id AND w.until > now());
    END IF;
    PERFORM procrastinate_deps.hand_over_locks(ARRAY(
        SELECT l.lock
        FROM deleted_jobs AS o
        JOIN procrastinate_deps.locks AS l ON l.lock = o.lock AND l.job_id = o.id
        WHERE o.lock IS NOT NULL));
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN NULL;
END
$$;

CREATE TRIGGER clean_up_deleted_jobs AFTER DELETE ON procrastinate_deps.jobs
REFERENCING OLD TABLE AS deleted_jobs
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_deps.clean_up_deleted_jobs();
