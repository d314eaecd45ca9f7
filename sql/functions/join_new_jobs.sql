-- Makes existing jobs that wait, held by hold_waiting, depend on new jobs of a batch, which are live: those that the batch
-- names in `before`, and joins: those that depend on the whole of a workflow, on every new job of it.
CREATE FUNCTION procrastinate_deps.join_new_jobs(batch jsonb, ids bigint[], joins bigint[], may_close_a_cycle boolean)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    children bigint[];
    blocked bigint[];
    cycle bigint[];
    each record;
BEGIN
    WITH added AS (
        INSERT INTO procrastinate_deps.job_dependencies (parent_id, child_id)
        SELECT ids[b.nth], c.id
        FROM ROWS FROM (jsonb_to_recordset(batch) AS (before bigint[])) WITH ORDINALITY AS b (before, nth)
        CROSS JOIN LATERAL (SELECT DISTINCT unnest(b.before) AS id) AS c
        WHERE c.id IS NOT NULL
        UNION
        SELECT j.id, d.child_id
        FROM unnest(ids) AS i (id)
        JOIN procrastinate_deps.jobs AS j ON j.id = i.id
        JOIN procrastinate_deps.workflows AS w ON w.id = j.workflow_id
        CROSS JOIN LATERAL unnest(w.path) AS p (id)
        JOIN procrastinate_deps.workflow_dependents AS d ON d.workflow_id = p.id
        WHERE d.child_id = ANY (joins)
        -- one that a function called by the same statement has joined already
        ON CONFLICT DO NOTHING
        RETURNING parent_id, child_id
    ),
    counted AS (
        UPDATE procrastinate_deps.job_blocks AS b
        SET live = b.live + a.parents
        FROM (SELECT child_id, count(*) AS parents FROM added GROUP BY child_id) AS a
        WHERE b.job_id = a.child_id
        RETURNING b.job_id
    )
    SELECT ARRAY(SELECT DISTINCT child_id FROM added ORDER BY 1), ARRAY(SELECT job_id FROM counted) INTO children, blocked;

    IF may_close_a_cycle THEN
        -- every edge that can close one begins in the batch and ends in one of these children
        FOR each IN
            SELECT d.child_id, array_agg(d.parent_id) AS parents
            FROM procrastinate_deps.job_dependencies AS d
            WHERE d.child_id = ANY (children) AND d.parent_id IN (SELECT unnest(ids))
            GROUP BY d.child_id
            ORDER BY d.child_id
        LOOP
            cycle := procrastinate_deps.find_cycle(each.child_id, each.parents);
            IF cycle IS NOT NULL THEN
                PERFORM procrastinate_deps.refuse_cycle(each.child_id, cycle);
            END IF;
        END LOOP;
    END IF;
    children := ARRAY(SELECT unnest(children) EXCEPT SELECT unnest(blocked));
    IF cardinality(children) > 0 THEN
        PERFORM procrastinate_deps.block_jobs(children);
    END IF;
END
$$;
