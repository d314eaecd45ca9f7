-- Runs a job again by hand: any terminal one, and a running one whose worker is lost. Its dependents that have not been
-- claimed go back to blocked, unless reset_dependents is false. A job whose own rule can't be met is refused, unless
-- ignore_dependencies is true: then it runs whatever its parents did or do, a blocked one too.
CREATE FUNCTION procrastinate_deps.retry_job(
    job_id bigint,
    retry_at timestamptz DEFAULT NULL, priority integer DEFAULT NULL, queue text DEFAULT NULL, lock text DEFAULT NULL,
    reset_dependents boolean DEFAULT true, ignore_dependencies boolean DEFAULT false,
    stalled_after interval DEFAULT '30 s'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    settling text := procrastinate_deps.start_settling();
    job procrastinate_deps.jobs;
    ended bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    SELECT * INTO job FROM procrastinate_deps.jobs AS j WHERE j.id = retry_job.job_id FOR UPDATE;
    IF job.id IS NULL THEN
        PERFORM procrastinate_deps.refuse_unknown_job(retry_job.job_id);
    END IF;

    IF job.status = 'doing' THEN
        IF EXISTS (
            SELECT FROM procrastinate_deps.workers AS w
            WHERE w.id = job.worker_id AND w.lost_at IS NULL AND w.heartbeat_at > now() - stalled_after
        ) THEN
            RAISE EXCEPTION 'job % can not be retried: it is running on worker %', job.id, job.worker_id
            USING ERRCODE = 'PD002', HINT = 'Wait for its end, or abort it first.';
        END IF;
        INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
        VALUES (job.id, job.worker_id, job.attempts + 1, 'retried', '{"from": "doing"}');
        -- by hand: a conflict is the caller's to hear, not the job's end
        PERFORM procrastinate_deps.set_todo(ARRAY[job.id], jsonb_build_object(job.id, jsonb_build_object(
            'retry_at', retry_at, 'priority', priority, 'queue', queue, 'lock', lock)), false);
        PERFORM procrastinate_deps.hand_over_locks(ARRAY[job.lock]);
        PERFORM procrastinate_deps.notify_queues(ARRAY[coalesce(retry_job.queue, job.queue)]);
        PERFORM procrastinate_deps.stop_settling(settling);
        RETURN;
    END IF;

    IF job.status = 'todo' OR (job.status = 'blocked' AND NOT ignore_dependencies) THEN
        PERFORM procrastinate_deps.refuse_transition(
            format('job %s can not be retried: it is %s', job.id, job.status),
            CASE job.status
                WHEN 'blocked' THEN 'It runs when its parents have ended; ignore_dependencies runs it now.'
                ELSE 'It has not ended; it runs when its time, its queue and its lock allow.'
            END);
    END IF;

    INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
    VALUES (job.id, job.worker_id, job.attempts, 'retried', jsonb_strip_nulls(jsonb_build_object(
        'from', job.status, 'reset_dependents', CASE WHEN NOT reset_dependents THEN false END, 'error', job.error, 'result', job.result, 'cancel_reason', job.cancel_reason,
        'started_at', job.started_at, 'finished_at', job.finished_at)));
    DELETE FROM procrastinate_deps.job_blocks AS b WHERE b.job_id = job.id;
    UPDATE procrastinate_deps.jobs AS j
    SET status = 'todo', cancel_kind = NULL, cancel_reason = NULL, finished_at = NULL, started_at = NULL,
        result = NULL, error = NULL, abort_requested = false, rescues = 0,
        ignores_dependencies = retry_job.ignore_dependencies,
        scheduled_at = retry_at,
        ready_at = now(),
        gate = procrastinate_deps.gate_for(retry_at),
        priority = coalesce(retry_job.priority, j.priority),
        queue = coalesce(retry_job.queue, j.queue),
        lock = coalesce(retry_job.lock, j.lock)
    WHERE j.id = job.id;
    IF job.status = 'blocked' THEN
        PERFORM procrastinate_deps.notify_queues(ARRAY[coalesce(retry_job.queue, job.queue)]);
    ELSE
        PERFORM procrastinate_deps.revive(ARRAY[job.id], reset_dependents, ignore_dependencies);
    END IF;
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
