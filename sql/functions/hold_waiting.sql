-- Before jobs of a batch become parents of existing jobs: locks those, and the batch's existing parents, in one order.
-- waiting: those that the batch names; that one of them has started is an error. joins: those that depend on the whole of
-- a workflow that the batch adds to; returned are those of them that have not started. The others wait for no job that is
-- added from here on, also when they are retried: they would wait for some of them and not for the others.
-- Only a batch that has existing parents can close a cycle: others take no advisory lock for it. (What is not committed
-- yet nobody else can make a parent or a child.)
CREATE FUNCTION procrastinate_deps.hold_waiting(waiting bigint[], joins bigint[], parents bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    members bigint[] := waiting || joins;
    refused record;
    r record;
BEGIN
    IF cardinality(parents) > 0 THEN
        PERFORM pg_advisory_xact_lock(procrastinate_deps.graph_key());
    END IF;
    -- a todo one becomes blocked, and is then counted anew: its present parents must not change meanwhile
    FOR r IN
        SELECT x.id, bool_or(x.member) AS member
        FROM (
            SELECT unnest(members) AS id, true AS member
            UNION ALL
            SELECT unnest(parents), false
            UNION ALL
            SELECT d.parent_id, false
            FROM procrastinate_deps.jobs AS j
            JOIN procrastinate_deps.job_dependencies AS d ON d.child_id = j.id
            WHERE j.id = ANY (members) AND (j.status = 'todo') IS TRUE
        ) AS x
        GROUP BY x.id
        ORDER BY x.id
    LOOP
        IF r.member THEN
            PERFORM 1 FROM procrastinate_deps.jobs WHERE id = r.id FOR NO KEY UPDATE;
        ELSE
            PERFORM 1 FROM procrastinate_deps.jobs WHERE id = r.id FOR KEY SHARE;
        END IF;
    END LOOP;
    SELECT w.id, j.status INTO refused
    FROM unnest(waiting) AS w (id)
    LEFT JOIN procrastinate_deps.jobs AS j ON j.id = w.id
    WHERE (j.status = 'blocked' OR (j.status = 'todo' AND j.started_at IS NULL)) IS NOT TRUE
    ORDER BY w.id
    LIMIT 1;
    IF FOUND THEN
        IF refused.status IS NULL THEN
            PERFORM procrastinate_deps.refuse_unknown_job(refused.id);
        END IF;
        PERFORM procrastinate_deps.refuse_started_child(refused.id, refused.status);
    END IF;
    -- released while we waited for it: out of order, but nobody holds its parents for long, they have just ended
    PERFORM 1
    FROM procrastinate_deps.jobs AS p
    WHERE p.id IN (
        SELECT d.parent_id
        FROM procrastinate_deps.jobs AS j
        JOIN procrastinate_deps.job_dependencies AS d ON d.child_id = j.id
        WHERE j.id = ANY (members) AND (j.status = 'todo') IS TRUE)
    ORDER BY p.id
    FOR KEY SHARE;
    members := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (joins) AND (j.status = 'blocked' OR (j.status = 'todo' AND j.started_at IS NULL)) IS TRUE);
    DELETE FROM procrastinate_deps.workflow_dependents AS d
    WHERE d.child_id = ANY (joins) AND d.child_id <> ALL (members);
    RETURN members;
END
$$;
