-- Why a job that runs would wait for ever if it waited for the end of a job, or of a workflow: it is the one, or one that
-- this one waits for, at any distance, waits for its end or for its lock. NULL: nothing is known against it.
-- created_at: of the running job, or it is the job of another database that happens to have the same id.
CREATE FUNCTION procrastinate_deps.waits_for_ever(
    running_id bigint, created_at timestamptz, job_id bigint, workflow_id bigint
) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    running procrastinate_deps.jobs;
    obstacle bigint;
BEGIN
    SELECT * INTO running
    FROM procrastinate_deps.jobs AS j
    WHERE j.id = running_id AND j.created_at = waits_for_ever.created_at AND j.status = 'doing';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF running.id = waits_for_ever.job_id THEN
        RETURN format('it is job %s itself', running.id);
    END IF;
    IF running.workflow_id IS NOT NULL AND waits_for_ever.workflow_id = ANY (
        SELECT unnest(w.path) FROM procrastinate_deps.workflows AS w WHERE w.id = running.workflow_id)
    THEN
        RETURN format('job %s is one of its jobs', running.id);
    END IF;
    -- Whatever must end first: a blocked job waits for all its parents that are live.
    WITH RECURSIVE inside (id) AS (
        SELECT waits_for_ever.workflow_id
        UNION
        SELECT w.id FROM inside JOIN procrastinate_deps.workflows AS w ON w.parent_id = inside.id
    ), first (id, status, lock) AS (
        SELECT j.id, j.status, j.lock
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = waits_for_ever.job_id
        UNION ALL
        SELECT j.id, j.status, j.lock
        FROM inside AS i
        JOIN procrastinate_deps.jobs AS j ON j.workflow_id = i.id
        UNION
        SELECT p.id, p.status, p.lock
        FROM first
        JOIN procrastinate_deps.job_dependencies AS d ON d.child_id = first.id
        JOIN procrastinate_deps.jobs AS p ON p.id = d.parent_id
        WHERE first.status = 'blocked' AND procrastinate_deps.is_live(p.status)
    )
    SELECT f.id INTO obstacle
    FROM first AS f
    WHERE f.id = running.id OR (f.lock = running.lock AND procrastinate_deps.is_live(f.status))
    LIMIT 1;
    IF obstacle = running.id THEN
        RETURN format('that waits for job %s', running.id);
    ELSIF obstacle = waits_for_ever.job_id THEN
        RETURN format('that needs the lock %L, which job %s has', running.lock, running.id);
    ELSIF obstacle IS NOT NULL THEN
        RETURN format(
            'that waits for job %s, which needs the lock %L, which job %s has', obstacle, running.lock, running.id);
    END IF;
    RETURN NULL;
END
$$;
