-- Runs jobs again by hand, by the rules of retry_job, all at once: a parent and its child together, in whatever order. One
-- row for each id: outcome is retried, or refused for a reason; the refusal of one stops no other.
CREATE FUNCTION procrastinate_deps.retry_jobs(
    job_ids bigint[],
    retry_at timestamptz DEFAULT NULL, priority integer DEFAULT NULL, queue text DEFAULT NULL, lock text DEFAULT NULL,
    reset_dependents boolean DEFAULT true, ignore_dependencies boolean DEFAULT false,
    stalled_after interval DEFAULT '30 s'
) RETURNS TABLE (job_id bigint, outcome text, reason text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    settling text;
    ended bigint[];
    blocked bigint[] := '{}';
    lost bigint[];
    chosen bigint[];
    hopeless bigint[];
    refusals jsonb := '{}';
    refusal text;
    hint text;
    each_id bigint;
    remaining bigint[];
    wave bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    job_ids := array_remove(job_ids, NULL);
    -- all that is changed or read is locked by id in one pass, whatever becomes of it
    PERFORM procrastinate_deps.hold_revival(retry_jobs.job_ids, retry_jobs.job_ids, true, reset_dependents);
    -- new statements from here on: they see what was ended, claimed or retried while we waited
    ended := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (job_ids) AND (j.finished_at IS NOT NULL) IS TRUE);
    IF ignore_dependencies THEN
        blocked := ARRAY(
            SELECT j.id FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (job_ids) AND (j.status = 'blocked') IS TRUE);
    END IF;
    lost := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (job_ids) AND (j.status = 'doing') IS TRUE AND NOT EXISTS (
            SELECT FROM procrastinate_deps.workers AS w
            WHERE w.id = j.worker_id AND w.lost_at IS NULL AND w.heartbeat_at > now() - stalled_after));
    SELECT coalesce(jsonb_object_agg(i.id, CASE
        WHEN j.id IS NULL THEN format('there is no job %s: it was deleted, or never deferred', i.id)
        WHEN j.status = 'doing' THEN format(
            'job %s can not be retried: it is running on worker %s. Wait for its end, or abort it first.', i.id, j.worker_id)
        WHEN j.status = 'blocked' THEN format('job %s can not be retried: it is blocked. It runs when its parents have '
            'ended; ignore_dependencies runs it now.', i.id)
        ELSE format('job %s can not be retried: it is %s. It has not ended; it runs when its time, its queue and its lock '
            'allow.', i.id, j.status) END), '{}')
    INTO refusals
    FROM (SELECT DISTINCT unnest(job_ids)) AS i (id)
    LEFT JOIN procrastinate_deps.jobs AS j ON j.id = i.id
    WHERE i.id <> ALL (ended || blocked || lost);

    chosen := ended;
    IF NOT ignore_dependencies THEN
        LOOP
            hopeless := procrastinate_deps.hopeless_jobs(chosen, reset_dependents);
            EXIT WHEN cardinality(hopeless) = 0;
            SELECT refusals || jsonb_object_agg(j.id, format(
                'job %s can not be retried: its rule is not met (%s). Retry the parents first, or retry this job with '
                'ignore_dependencies.', j.id, procrastinate_deps.describe_unmet(j.id, j.run_when)))
            INTO refusals
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = ANY (hopeless);
            chosen := ARRAY(SELECT unnest(chosen) EXCEPT SELECT unnest(hopeless));
        END LOOP;
    END IF;

    BEGIN
        settling := procrastinate_deps.start_settling();
        INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
        SELECT j.id, j.worker_id, j.attempts + (j.status = 'doing')::integer, 'retried', jsonb_strip_nulls(
            jsonb_build_object(
                'from', j.status, 'reset_dependents', CASE WHEN NOT reset_dependents THEN false END,
                'error', j.error, 'result', j.result, 'cancel_reason', j.cancel_reason,
                'started_at', CASE WHEN j.status <> 'doing' THEN j.started_at END, 'finished_at', j.finished_at))
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (chosen || blocked || lost);
        PERFORM procrastinate_deps.set_todo(lost, (
            SELECT jsonb_object_agg(i.id, jsonb_build_object(
                'retry_at', retry_at, 'priority', retry_jobs.priority, 'queue', retry_jobs.queue, 'lock', retry_jobs.lock))
            FROM unnest(lost) AS i (id)), false)
        WHERE cardinality(lost) > 0;
        PERFORM procrastinate_deps.hand_over_locks(ARRAY(
            SELECT l.lock FROM procrastinate_deps.locks AS l WHERE l.job_id = ANY (lost)));
        DELETE FROM procrastinate_deps.job_blocks AS b WHERE b.job_id = ANY (chosen || blocked);
        UPDATE procrastinate_deps.jobs AS j
        SET status = 'todo', cancel_kind = NULL, cancel_reason = NULL, finished_at = NULL, started_at = NULL,
            result = NULL, error = NULL, abort_requested = false, rescues = 0,
            ignores_dependencies = retry_jobs.ignore_dependencies,
            scheduled_at = retry_at,
            ready_at = now(),
            gate = procrastinate_deps.gate_for(retry_at),
            priority = coalesce(retry_jobs.priority, j.priority),
            queue = coalesce(retry_jobs.queue, j.queue),
            lock = coalesce(retry_jobs.lock, j.lock)
        WHERE j.id = ANY (chosen || blocked);
        PERFORM procrastinate_deps.revive(chosen, reset_dependents, ignore_dependencies) WHERE cardinality(chosen) > 0;
        PERFORM procrastinate_deps.notify_queues(ARRAY(
            SELECT DISTINCT j.queue FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (blocked || lost)))
        WHERE cardinality(blocked || lost) > 0;
        PERFORM procrastinate_deps.stop_settling(settling);
    EXCEPTION
    WHEN unique_violation OR SQLSTATE 'PD002' OR SQLSTATE 'PD004' OR SQLSTATE 'PD005' OR SQLSTATE 'PD009'
        OR SQLSTATE 'PD010'
    THEN
        -- one has a queueing lock, or a workflow's name, that another one has: so it is one by one, for which of them can be
        remaining := ARRAY(SELECT x.id FROM unnest(chosen || blocked || lost) AS x (id) ORDER BY x.id);
        WHILE cardinality(remaining) > 0 LOOP
            -- A parent before its child, whose rule it may let be met. Who ignores its parents comes before them: they would
            -- have it wait again.
            wave := ARRAY(
                SELECT unnest(remaining)
                EXCEPT
                SELECT CASE WHEN ignore_dependencies THEN d.parent_id ELSE d.child_id END
                FROM procrastinate_deps.job_dependencies AS d
                WHERE d.child_id = ANY (remaining) AND (d.parent_id IN (SELECT unnest(remaining))) IS TRUE
                ORDER BY 1);
            EXIT WHEN cardinality(wave) = 0;
            remaining := ARRAY(SELECT unnest(remaining) EXCEPT SELECT unnest(wave));
            FOREACH each_id IN ARRAY wave LOOP
                -- a retried parent may have put it back already
                CONTINUE WHEN EXISTS (
                    SELECT FROM procrastinate_deps.jobs AS j
                    WHERE j.id = each_id AND j.status = 'blocked' AND each_id = ANY (ended));
                BEGIN
                    PERFORM procrastinate_deps.retry_job(
                        each_id, retry_at, priority, queue, lock, reset_dependents, ignore_dependencies, stalled_after);
                EXCEPTION
                    WHEN unique_violation OR SQLSTATE 'PD002' OR SQLSTATE 'PD004' OR SQLSTATE 'PD005' OR SQLSTATE 'PD009'
                        OR SQLSTATE 'PD010'
                    THEN
                        GET STACKED DIAGNOSTICS refusal = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
                        refusals := refusals || jsonb_build_object(each_id, CASE
                            WHEN SQLSTATE = '23505' THEN format(
                                'job %s can not be retried: its queueing lock, or that of a dependent, is taken', each_id)
                            ELSE concat_ws('. ', refusal, nullif(hint, '')) END);
                END;
            END LOOP;
        END LOOP;
    END;

    RETURN QUERY
    SELECT i.id, CASE WHEN refusals ? i.id::text THEN 'refused' ELSE 'retried' END, refusals ->> i.id::text
    FROM (SELECT DISTINCT unnest(job_ids)) AS i (id)
    ORDER BY i.id;
END
$$;
