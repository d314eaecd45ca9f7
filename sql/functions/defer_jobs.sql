-- Defers any number of jobs and edges as one statement, all or nothing; returns the ids in the order of the batch.
-- batch: a JSON array of objects with task_name and, as wanted: queue, priority, lock, queueing_lock, args (an object),
-- scheduled_at or schedule_in (seconds from now: a client's clock may be wrong), run_when, depends_on (ids of existing
-- jobs) and after (positions, from 0, of earlier jobs of the batch).
-- Parents are locked KEY SHARE by one statement and their status is read by later ones: a parent that is just ending
-- makes this wait and is then seen ended, or waits for this and then sees its new child.
CREATE FUNCTION procrastinate_deps.defer_jobs(batch jsonb) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
    ids_from regclass := format('%I.%I', 'procrastinate_deps', 'jobs_id_seq')::regclass;
    ids bigint[] := ARRAY(SELECT nextval(ids_from) FROM generate_series(1, jsonb_array_length(batch)));
    children bigint[];
    parents bigint[];
    present bigint[];
    misplaced bigint[];
BEGIN
    WITH child AS (
        SELECT b.nth, b.depends_on, b.after
        FROM ROWS FROM (jsonb_to_recordset(batch) AS (depends_on bigint[], after integer[]))
            WITH ORDINALITY AS b (depends_on, after, nth)
        WHERE cardinality(b.depends_on) > 0 OR cardinality(b.after) > 0
    )
    SELECT
        array_agg(ids[c.nth]),
        ARRAY(SELECT DISTINCT p FROM child AS x, unnest(x.depends_on) AS p ORDER BY p),
        ARRAY(SELECT DISTINCT x.nth - 1 FROM child AS x, unnest(x.after) AS p WHERE p + 1 >= x.nth OR p < 0 ORDER BY 1)
    INTO children, parents, misplaced
    FROM child AS c;

    IF cardinality(misplaced) > 0 THEN
        RAISE EXCEPTION 'a parent inside the batch must come before its child: see the jobs at positions %', misplaced
        USING ERRCODE = 'PD003', DETAIL = jsonb_build_object('cycle', to_jsonb(misplaced)),
            HINT = 'Positions count from 0. Sort the batch so that parents come first.';
    END IF;
    IF cardinality(parents) > 0 THEN
        present := ARRAY(
            SELECT id FROM procrastinate_deps.jobs WHERE id = ANY (parents) ORDER BY id FOR KEY SHARE);
        IF cardinality(present) < cardinality(parents) THEN
            PERFORM procrastinate_deps.refuse_missing(parents, present);
        END IF;
    END IF;

    -- new statements: they see how the parents stand now that they are held
    INSERT INTO procrastinate_deps.jobs
        (id, queue, task_name, priority, lock, queueing_lock, args, scheduled_at, run_when, status, gate)
    SELECT
        ids[b.nth], coalesce(b.queue, 'default'), b.task_name, coalesce(b.priority, 0), b.lock, b.queueing_lock,
        coalesce(b.args, '{}'), b.due, coalesce(b.run_when, 'all_finished'),
        CASE WHEN b.waits THEN 'blocked' ELSE 'todo' END::procrastinate_deps.job_status,
        CASE WHEN NOT b.waits THEN procrastinate_deps.gate_for(b.due) END
    FROM (
        SELECT *, coalesce(cardinality(x.depends_on), 0) + coalesce(cardinality(x.after), 0) > 0 AS waits,
            coalesce(statement_timestamp() + make_interval(secs => x.schedule_in), x.scheduled_at) AS due
        FROM ROWS FROM (jsonb_to_recordset(batch) AS (
            task_name text, queue text, priority integer, lock text, queueing_lock text, args jsonb,
            scheduled_at timestamptz, schedule_in double precision, run_when procrastinate_deps.run_when,
            depends_on bigint[], after integer[]))
            WITH ORDINALITY AS x (
                task_name, queue, priority, lock, queueing_lock, args, scheduled_at, schedule_in, run_when, depends_on,
                after, nth)
    ) AS b;

    IF cardinality(children) > 0 THEN
        INSERT INTO procrastinate_deps.job_dependencies (parent_id, child_id)
        SELECT p.id, ids[b.nth]
        FROM ROWS FROM (jsonb_to_recordset(batch) AS (depends_on bigint[], after integer[]))
            WITH ORDINALITY AS b (depends_on, after, nth)
        CROSS JOIN LATERAL (
            SELECT unnest(b.depends_on) AS id
            UNION
            SELECT ids[a + 1] FROM unnest(b.after) AS a
        ) AS p;
        INSERT INTO procrastinate_deps.job_blocks (job_id, run_when, live, succeeded, failed, cancelled, not_needed)
        SELECT c.job_id, j.run_when, c.live, c.succeeded, c.failed, c.cancelled, c.not_needed
        FROM procrastinate_deps.count_parents(children) AS c
        JOIN procrastinate_deps.jobs AS j ON j.id = c.job_id;
        -- those whose parents have all ended; only jobs of this batch are touched
        PERFORM procrastinate_deps.settle('{}', children);
    END IF;
    IF cardinality(children) IS DISTINCT FROM cardinality(ids) THEN
        PERFORM procrastinate_deps.notify_queues(ARRAY(
            SELECT DISTINCT coalesce(b.queue, 'default')
            FROM jsonb_to_recordset(batch) AS b (queue text, depends_on bigint[], after integer[])
            WHERE coalesce(cardinality(b.depends_on), 0) + coalesce(cardinality(b.after), 0) = 0));
    END IF;
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN ids;
END
$$;
