-- Cancels a job that has not started; with abort, asks the worker of a running one to stop it. With delete_job, one that
-- has not started is deleted instead, which counts as a cancel for its children. False: there was nothing to do.
CREATE FUNCTION procrastinate_deps.cancel_job(job_id bigint, abort boolean DEFAULT false, delete_job boolean DEFAULT false)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    worker bigint;
    attempt integer;
BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_deps.jobs AS j WHERE j.id = cancel_job.job_id AND j.status IN ('blocked', 'todo');
    ELSE
        UPDATE procrastinate_deps.jobs AS j
        SET status = 'cancelled'
        WHERE j.id = cancel_job.job_id AND j.status IN ('blocked', 'todo');
    END IF;
    IF FOUND THEN
        RETURN true;
    END IF;
    IF abort THEN
        UPDATE procrastinate_deps.jobs AS j
        SET abort_requested = true
        WHERE j.id = cancel_job.job_id AND j.status = 'doing'
        RETURNING j.worker_id, j.attempts + 1 INTO worker, attempt;
        IF FOUND THEN
            INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type)
            VALUES (cancel_job.job_id, worker, attempt, 'abort_requested');
            PERFORM pg_notify('procrastinate_deps',
                json_build_object('type', 'abort', 'job_id', cancel_job.job_id, 'worker_id', worker)::text);
            RETURN true;
        END IF;
    END IF;
    RETURN false;
END
$$;
