-- Defers the job of one period, unless that was done: each period is deferred once, periods of a task in their order, and
-- none before its time, all by the database's clock. periodic: as for register_periodic_tasks; period: seconds since the
-- epoch. Returns what became of it, and the time:
--   deferred; skipped: a job with the same queueing_lock is waiting; taken: this period or a later one was deferred or
--   skipped before; early: its time has not come.
CREATE FUNCTION procrastinate_deps.defer_periodic_job(periodic jsonb, period bigint)
RETURNS TABLE (outcome text, job_id bigint, clock double precision)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    task text := periodic ->> 'task_name';
    id text := periodic ->> 'periodic_id';
    job jsonb := jsonb_set(periodic -> 'job', '{args,timestamp}', to_jsonb(period));
    violated text;
BEGIN
    IF to_timestamp(period) > clock_timestamp() THEN
        outcome := 'early';
    -- without a lock first: of many workers that come at once all but one only read
    ELSIF EXISTS (
        SELECT FROM procrastinate_deps.periodic_tasks AS p
        WHERE p.task_name = task AND p.periodic_id = id AND p.last_timestamp >= period)
    THEN
        outcome := 'taken';
    ELSE
        INSERT INTO procrastinate_deps.periodic_tasks AS p
            (task_name, periodic_id, cron, timezone, job, last_timestamp, last_deferred_at)
        VALUES (task, id, periodic ->> 'cron', periodic ->> 'timezone', periodic -> 'job', period, now())
        ON CONFLICT ON CONSTRAINT periodic_tasks_pkey DO UPDATE
        SET last_timestamp = excluded.last_timestamp, last_deferred_at = excluded.last_deferred_at, last_job_id = NULL
        WHERE p.last_timestamp IS NULL OR p.last_timestamp < excluded.last_timestamp;
        IF NOT FOUND THEN
            outcome := 'taken';
        ELSE
            BEGIN
                job_id := (procrastinate_deps.defer_jobs(jsonb_build_array(job)))[1];
                outcome := 'deferred';
                UPDATE procrastinate_deps.periodic_tasks AS p SET last_job_id = defer_periodic_job.job_id
                WHERE p.task_name = task AND p.periodic_id = id;
            EXCEPTION WHEN unique_violation THEN
                GET STACKED DIAGNOSTICS violated = CONSTRAINT_NAME;
                IF violated <> 'jobs_queueing_lock' THEN
                    RAISE;
                END IF;
                outcome := 'skipped';
            END;
        END IF;
    END IF;
    clock := extract(epoch FROM clock_timestamp());
    RETURN NEXT;
END
$$;
