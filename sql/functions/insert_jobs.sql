-- What defer_jobs and defer_graph have in common: inserts the jobs of a batch and their edges, and returns their ids.
-- new_workflows: ids of workflows made by this statement, for the positions in the batch. See defer_jobs.
--
-- Parents are locked KEY SHARE by one statement and their status is read by later ones: a parent that is just ending makes
-- this wait and is then seen ended, or waits for this and then sees its new child. A parent that is in the batch is live
-- until settle says otherwise, so that nothing has to be read of it (100,000 jobs with 300,000 edges: a third of the time).
CREATE FUNCTION procrastinate_deps.insert_jobs(batch jsonb, new_workflows bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    ids_from regclass := format('%I.%I', 'procrastinate_deps', 'jobs_id_seq')::regclass;
    ids bigint[] := ARRAY(SELECT nextval(ids_from) FROM generate_series(1, jsonb_array_length(batch)));
    has_edges boolean;
    in_workflows boolean;
    on_whole boolean;
    grows boolean;
    -- workflows that jobs are added to
    growing bigint[] := '{}';
    -- edges to jobs of the batch: the child's position, from 1, and the parent's id
    edge_children integer[];
    edge_parents bigint[];
    -- edges from jobs of the batch to existing ones that wait
    waiting bigint[] := '{}';
    joins bigint[] := '{}';
    -- existing jobs
    required bigint[] := '{}';
    parents bigint[];
    present bigint[] := '{}';
    misplaced bigint[];
    children integer[];
    decide bigint[] := '{}';
    queues text[];
BEGIN
    SELECT
        coalesce(bool_or(coalesce(x.depends_on, '[]') <> '[]' OR coalesce(x.after, '[]') <> '[]'), false),
        coalesce(bool_or(x.workflow IS NOT NULL OR x.workflow_id IS NOT NULL), false),
        coalesce(bool_or(
            coalesce(x.depends_on_workflows, '[]') <> '[]' OR coalesce(x.after_workflows, '[]') <> '[]'), false),
        coalesce(bool_or(coalesce(x.before, '[]') <> '[]'), false)
    INTO has_edges, in_workflows, on_whole, grows
    FROM jsonb_to_recordset(batch) AS x (
        depends_on jsonb, after jsonb, workflow jsonb, workflow_id jsonb, before jsonb, depends_on_workflows jsonb,
        after_workflows jsonb);

    IF in_workflows OR on_whole THEN
        SELECT g.growing, g.joins INTO growing, joins
        FROM procrastinate_deps.workflows_of_batch(batch, new_workflows) AS g;
        grows := grows OR cardinality(joins) > 0;
    END IF;
    IF has_edges OR on_whole THEN
        SELECT
            array_agg(e.child), array_agg(e.parent), coalesce(array_agg(DISTINCT e.parent) FILTER (WHERE e.required), '{}'),
            coalesce(array_agg(DISTINCT e.parent) FILTER (WHERE e.existing), '{}'),
            array_agg(DISTINCT e.child - 1) FILTER (WHERE e.misplaced), array_agg(DISTINCT e.child)
        INTO edge_children, edge_parents, required, parents, misplaced, children
        FROM (
            SELECT
                f.child, f.parent, bool_or(f.existing) AS existing, bool_or(f.required) AS required,
                bool_or(f.misplaced) AS misplaced
            FROM (
                SELECT b.nth::integer AS child, p.parent, p.existing, p.existing AS required, p.misplaced
                FROM ROWS FROM (jsonb_to_recordset(batch) AS (depends_on bigint[], after integer[]))
                    WITH ORDINALITY AS b (depends_on, after, nth)
                CROSS JOIN LATERAL (
                    SELECT d.id AS parent, true AS existing, false AS misplaced FROM unnest(b.depends_on) AS d (id)
                    UNION ALL
                    SELECT ids[a.place + 1], false, a.place + 1 >= b.nth OR a.place < 0 FROM unnest(b.after) AS a (place)
                ) AS p
                WHERE has_edges
                UNION ALL
                SELECT w.child, w.parent, w.existing, false, w.misplaced
                FROM procrastinate_deps.edges_to_whole_workflows(batch, ids, new_workflows) AS w
                WHERE on_whole
            ) AS f
            -- one may be named, and be in a whole workflow besides
            GROUP BY f.child, f.parent
            ORDER BY f.child, f.parent
        ) AS e;
        IF cardinality(misplaced) > 0 THEN
            RAISE EXCEPTION 'a parent inside the batch must come before its child: see the jobs at positions %',
                array_to_string(misplaced[:20], ', ')
            USING ERRCODE = 'PD003', DETAIL = jsonb_build_object('cycle', to_jsonb(misplaced)),
                HINT = 'Positions count from 0. Sort the batch so that parents come first.';
        END IF;
    END IF;

    IF grows THEN
        PERFORM procrastinate_deps.require_read_committed();
        waiting := ARRAY(
            SELECT DISTINCT c.id
            FROM jsonb_to_recordset(batch) AS b (before bigint[])
            CROSS JOIN LATERAL unnest(b.before) AS c (id)
            WHERE c.id IS NOT NULL
            ORDER BY c.id);
        joins := procrastinate_deps.hold_waiting(waiting, joins, coalesce(parents, '{}'));
    END IF;
    IF cardinality(parents) > 0 THEN
        present := ARRAY(
            SELECT id FROM procrastinate_deps.jobs WHERE id = ANY (parents) ORDER BY id FOR KEY SHARE);
        IF cardinality(present) < cardinality(parents) THEN
            IF NOT required <@ present THEN
                PERFORM procrastinate_deps.refuse_missing(required, present);
            END IF;
            -- of a whole workflow: deleted while we waited
            SELECT array_agg(e.child), array_agg(e.parent), array_agg(DISTINCT e.child)
            INTO edge_children, edge_parents, children
            FROM unnest(edge_children, edge_parents) AS e (child, parent)
            WHERE (e.parent IN (SELECT unnest(parents) EXCEPT SELECT unnest(present))) IS NOT TRUE;
            parents := present;
        END IF;
    END IF;
    IF cardinality(growing) > 0 THEN
        PERFORM procrastinate_deps.hold_workflows(growing);
    END IF;

    -- new statements: they see how the parents stand now that they are held
    WITH inserted AS (
        INSERT INTO procrastinate_deps.jobs
            (id, workflow_id, queue, task_name, node, priority, lock, queueing_lock, args, scheduled_at, run_when, status,
            gate)
        SELECT
            ids[b.nth], coalesce(b.workflow_id, new_workflows[b.workflow + 1]), coalesce(b.queue, 'default'), b.task_name,
            b.node, coalesce(b.priority, 0), b.lock, b.queueing_lock, coalesce(b.args, '{}'), b.due,
            coalesce(b.run_when, 'all_finished'),
            CASE WHEN b.waits THEN 'blocked' ELSE 'todo' END::procrastinate_deps.job_status,
            CASE WHEN NOT b.waits THEN procrastinate_deps.gate_for(b.due) END
        FROM (
            SELECT *, coalesce(x.nth::integer IN (SELECT unnest(children)), false) AS waits,
                coalesce(statement_timestamp() + make_interval(secs => x.schedule_in), x.scheduled_at) AS due
            FROM ROWS FROM (jsonb_to_recordset(batch) AS (
                task_name text, queue text, priority integer, lock text, queueing_lock text, args jsonb,
                scheduled_at timestamptz, schedule_in double precision, run_when procrastinate_deps.run_when,
                workflow_id bigint, workflow integer, node text))
                WITH ORDINALITY AS x (
                    task_name, queue, priority, lock, queueing_lock, args, scheduled_at, schedule_in, run_when,
                    workflow_id, workflow, node, nth)
        ) AS b
        RETURNING queue, status
    )
    SELECT array_agg(DISTINCT queue) FILTER (WHERE status = 'todo') INTO queues FROM inserted;
    IF in_workflows THEN
        PERFORM procrastinate_deps.count_new_jobs(ids, ARRAY(SELECT ids[c.child] FROM unnest(children) AS c (child)));
    END IF;

    IF cardinality(children) > 0 THEN
        INSERT INTO procrastinate_deps.job_dependencies (parent_id, child_id)
        SELECT e.parent, ids[e.child] FROM unnest(edge_children, edge_parents) AS e (child, parent);
        WITH counted AS (
            INSERT INTO procrastinate_deps.job_blocks (job_id, run_when, live, succeeded, failed, cancelled, not_needed)
            SELECT j.id, j.run_when, c.live, c.succeeded, c.failed, c.cancelled, c.not_needed
            FROM (
                SELECT
                    e.child,
                    count(*) FILTER (WHERE e.outcome = 'live') AS live,
                    count(*) FILTER (WHERE e.outcome = 'succeeded') AS succeeded,
                    count(*) FILTER (WHERE e.outcome = 'failed') AS failed,
                    count(*) FILTER (WHERE e.outcome = 'cancelled') AS cancelled,
                    count(*) FILTER (WHERE e.outcome = 'not_needed') AS not_needed
                FROM (
                    SELECT x.child,
                        CASE WHEN p.id IS NULL THEN 'live'
                            ELSE procrastinate_deps.parent_outcome(p.status, p.cancel_kind) END AS outcome
                    FROM unnest(edge_children, edge_parents) AS x (child, parent)
                    LEFT JOIN procrastinate_deps.jobs AS p
                        ON p.id = CASE WHEN x.parent IN (SELECT unnest(parents)) THEN x.parent END
                ) AS e
                GROUP BY e.child
            ) AS c
            -- A trigger of a user's own may have ended it already. OFFSET 0: look-ups, see count_ends
            CROSS JOIN LATERAL (
                SELECT x.id, x.run_when FROM procrastinate_deps.jobs AS x
                WHERE x.id = ids[c.child] AND (x.status = 'blocked') IS TRUE OFFSET 0
            ) AS j
            RETURNING job_id, live
        )
        SELECT coalesce(array_agg(job_id), '{}') INTO decide FROM counted WHERE live = 0;
    END IF;
    IF on_whole THEN
        INSERT INTO procrastinate_deps.workflow_dependents (workflow_id, child_id)
        SELECT w.id, ids[b.nth]
        FROM ROWS FROM (jsonb_to_recordset(batch) AS (depends_on_workflows bigint[], after_workflows integer[]))
            WITH ORDINALITY AS b (depends_on_workflows, after_workflows, nth)
        CROSS JOIN LATERAL (
            SELECT unnest(b.depends_on_workflows) AS id
            UNION
            SELECT new_workflows[a + 1] FROM unnest(b.after_workflows) AS a
        ) AS w;
    END IF;
    IF cardinality(waiting || joins) > 0 THEN
        PERFORM procrastinate_deps.join_new_jobs(batch, ids, joins, cardinality(parents) > 0);
    END IF;
    -- those whose parents have all ended; only jobs of this batch are touched, and those that wait for them
    IF cardinality(decide) > 0 THEN
        PERFORM procrastinate_deps.settle('{}', decide);
    END IF;
    IF cardinality(waiting || joins) > 0 THEN
        PERFORM procrastinate_deps.release_locks(waiting || joins);
    END IF;
    IF queues IS NOT NULL THEN
        PERFORM procrastinate_deps.notify_queues(queues);
    END IF;
    RETURN ids;
END
$$;
