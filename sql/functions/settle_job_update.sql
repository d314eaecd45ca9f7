-- Settles what a plain UPDATE has ended or revived, all its rows at once. (A trigger with transition tables can't be
-- limited to UPDATE OF status, so it fires on every UPDATE: progress and heartbeats are kept out of this table.)
CREATE FUNCTION procrastinate_deps.settle_job_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_nestloop = on
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling(true);
    ended bigint[];
    revived bigint[];
    left_line text[];
    woken text[];
BEGIN
    -- Transition tables have no index, and the planner takes them for small: 10,000 rows joined by nested loops took 13 s.
    PERFORM set_config('enable_nestloop', 'off', true), set_config('enable_hashjoin', 'on', true);
    SELECT
        array_agg(n.id) FILTER (
            WHERE procrastinate_deps.is_live(o.status) AND NOT procrastinate_deps.is_live(n.status)),
        array_agg(n.id) FILTER (
            WHERE NOT procrastinate_deps.is_live(o.status) AND procrastinate_deps.is_live(n.status)),
        array_agg(o.lock) FILTER (
            WHERE o.lock IS NOT NULL AND o.status IN ('todo', 'doing')
                AND (o.status, o.queue, o.lock, o.gate) IS DISTINCT FROM (n.status, n.queue, n.lock, n.gate)),
        array_agg(n.queue) FILTER (
            WHERE n.status = 'todo' AND (o.status, o.queue, o.lock, o.scheduled_at)
                IS DISTINCT FROM (n.status, n.queue, n.lock, n.scheduled_at))
    INTO ended, revived, left_line, woken
    FROM old_rows AS o
    JOIN new_rows AS n USING (id);
    IF coalesce(ended, revived) IS NULL AND left_line IS NULL AND woken IS NULL THEN
        PERFORM procrastinate_deps.stop_settling(settling);
        RETURN NULL;
    END IF;
    IF coalesce(ended, revived) IS NOT NULL OR left_line IS NOT NULL THEN
        PERFORM procrastinate_deps.require_read_committed();
    END IF;
    INSERT INTO procrastinate_deps.job_events (job_id, worker_id, attempt, type, detail)
    SELECT n.id, n.worker_id, n.attempts,
        CASE n.status WHEN 'cancelled' THEN 'cancelled' WHEN 'todo' THEN 'retried' ELSE 'ended' END,
        jsonb_strip_nulls(jsonb_build_object('from', o.status, 'to', n.status, 'error', o.error))
    FROM old_rows AS o
    JOIN new_rows AS n USING (id)
    WHERE o.status <> n.status;
    PERFORM set_config('enable_nestloop', 'on', true), set_config('enable_hashjoin', 'off', true);
    -- As they stand now: a function that the same statement has called, or a trigger of a user's own, came before this.
    ended := (
        SELECT array_agg(j.id) FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (ended) AND (j.finished_at IS NOT NULL) IS TRUE);
    revived := (
        SELECT array_agg(j.id) FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (revived) AND (j.finished_at IS NULL) IS TRUE);
    IF ended IS NOT NULL THEN
        DELETE FROM procrastinate_deps.job_blocks WHERE job_id = ANY (ended);
        -- Counters that this transaction has written since these jobs ended may have their ends in them.
        IF EXISTS (
            SELECT
            FROM procrastinate_deps.job_dependencies AS d
            JOIN procrastinate_deps.job_blocks AS b ON b.job_id = ANY (ARRAY[d.child_id])
            WHERE d.parent_id = ANY (ended) AND age(b.xmin) <= age(pg_current_xact_id()::xid)
                AND b.cmin::text::bigint >= (
                    SELECT min(j.cmin::text::bigint) FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (ended)))
        THEN
            PERFORM procrastinate_deps.settle_anew(ended);
            PERFORM procrastinate_deps.release_locks(ended);
        ELSE
            PERFORM procrastinate_deps.end_jobs(ended);
        END IF;
    END IF;
    IF revived IS NOT NULL THEN
        PERFORM procrastinate_deps.revive(revived);
    END IF;
    PERFORM procrastinate_deps.hand_over_locks(left_line);
    PERFORM procrastinate_deps.notify_queues(woken);
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN NULL;
END
$$;

CREATE TRIGGER settle_job_update AFTER UPDATE ON procrastinate_deps.jobs
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT
WHEN (coalesce(current_setting('procrastinate_deps_internal.settling', true), '')
        <> concat('procrastinate_deps', ' ', pg_trigger_depth()))
EXECUTE FUNCTION procrastinate_deps.settle_job_update();
