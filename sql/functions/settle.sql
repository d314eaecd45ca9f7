-- THE MECHANISM by which every end of a job reaches its children, whoever ended it and however.
--
-- ended: jobs whose rows are terminal and held FOR UPDATE by this transaction.
-- decide: blocked jobs whose rows it holds and whose counters are already right (recounted, not to be decremented).
--
-- Locks. Only rows of `jobs` are locks; a job_blocks row is written only by who holds its job's row.
--   a job whose liveness changes (it ends or is revived) ...... FOR UPDATE: conflicts with who adds a child to it
--   a parent of a job that is being made blocked .............. FOR KEY SHARE, and its status is read in a NEW statement
--   a blocked child whose counters change or that is released . FOR NO KEY UPDATE: deferring a child of it may go on
--   a blocked child that its rule cancels ..................... FOR UPDATE, and only then ITS edges are read
-- Order. The children that these ends touch, and those further down that a cancellation will (guessed by touched_by), are
-- locked in one statement by id. Without that, cascades A -> x, z; B -> y; x -> y; y -> z deadlock although ids rise along
-- every edge. A child outside the guess is locked by its wave: correctness does not rest on the guess, only the order does.
-- Waves instead of recursion through triggers: a chain of 400 cancels would end in "stack depth limit exceeded".
CREATE FUNCTION procrastinate_deps.settle(ended bigint[], decide bigint[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    first_wave boolean := true;
    -- of each blocked child of those that have ended: what their ends are for it
    e record;
    children bigint[];
    runnable bigint[];
    doomed bigint[];
    released bigint[] := '{}';
    queues text[];
    queues_scheduled text[];
BEGIN
    LOOP
        doomed := NULL;
        IF cardinality(ended) > 0 THEN
            -- Counted once, before the children are held: whoever writes an edge, makes its child blocked or revives
            -- its parent needs a lock on that parent which FOR UPDATE excludes.
            SELECT
                array_agg(c.child_id) AS child_ids,
                array_agg(c.ends) AS ends,
                array_agg(c.succeeded) AS succeeded,
                array_agg(c.failed) AS failed,
                array_agg(c.cancelled) AS cancelled,
                array_agg(c.not_needed) AS not_needed,
                array_agg(c.child_id) FILTER (WHERE b.live <= c.ends AND NOT procrastinate_deps.rule_met(
                    b.run_when, b.succeeded + c.succeeded, b.failed + c.failed,
                    b.cancelled + c.cancelled, b.not_needed + c.not_needed)) AS doomed
            INTO e
            FROM procrastinate_deps.count_ends(ended) AS c
            -- OFFSET 0, and ANY (ARRAY[...]) below: look-ups, however few rows there were when this was planned. (With a
            -- plan from before 100,000 blocked jobs came in each finish read all of them.)
            CROSS JOIN LATERAL (
                SELECT * FROM procrastinate_deps.job_blocks AS x WHERE x.job_id = c.child_id OFFSET 0
            ) AS b;
            children := e.child_ids;
            IF first_wave AND e.doomed IS NOT NULL THEN
                children := children || procrastinate_deps.touched_by(e.doomed);
            END IF;
            first_wave := false;
            IF children IS NOT NULL THEN
                PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;
                -- a new statement: it sees how the counters stand that were written while we waited
                WITH met AS (
                    DELETE FROM procrastinate_deps.job_blocks AS b
                    USING unnest(e.child_ids, e.ends, e.succeeded, e.failed, e.cancelled, e.not_needed)
                        AS c (child_id, ends, succeeded, failed, cancelled, not_needed)
                    WHERE b.job_id = ANY (ARRAY[c.child_id]) AND b.live = c.ends AND procrastinate_deps.rule_met(
                        b.run_when, b.succeeded + c.succeeded, b.failed + c.failed,
                        b.cancelled + c.cancelled, b.not_needed + c.not_needed)
                    RETURNING b.job_id
                )
                SELECT array_agg(job_id) INTO runnable FROM met;
                released := released || coalesce(runnable, '{}');
                IF cardinality(runnable) IS DISTINCT FROM cardinality(e.child_ids) THEN
                    WITH counted AS (
                        UPDATE procrastinate_deps.job_blocks AS b
                        SET live = b.live - c.ends,
                            succeeded = b.succeeded + c.succeeded,
                            failed = b.failed + c.failed,
                            cancelled = b.cancelled + c.cancelled,
                            not_needed = b.not_needed + c.not_needed
                        FROM unnest(e.child_ids, e.ends, e.succeeded, e.failed, e.cancelled, e.not_needed)
                            AS c (child_id, ends, succeeded, failed, cancelled, not_needed)
                        WHERE b.job_id = ANY (ARRAY[c.child_id])
                        RETURNING b.job_id, b.live
                    )
                    SELECT array_agg(job_id) INTO doomed FROM counted WHERE live = 0;
                END IF;
            END IF;
        END IF;
        IF cardinality(decide) > 0 THEN
            WITH met AS (
                DELETE FROM procrastinate_deps.job_blocks
                WHERE job_id = ANY (decide) AND live = 0
                    AND procrastinate_deps.rule_met(run_when, succeeded, failed, cancelled, not_needed)
                RETURNING job_id
            )
            SELECT array_agg(job_id) INTO runnable FROM met;
            released := released || coalesce(runnable, '{}');
            doomed := doomed || ARRAY(
                SELECT job_id FROM procrastinate_deps.job_blocks WHERE job_id = ANY (decide) AND live = 0);
            decide := '{}';
        END IF;
        EXIT WHEN coalesce(cardinality(doomed), 0) = 0;

        -- waits for whoever is adding a child to one of them; the next wave then sees that child
        PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (doomed) ORDER BY id FOR UPDATE;
        UPDATE procrastinate_deps.jobs
        SET status = 'cancelled',
            cancel_kind = procrastinate_deps.unmet_kind(run_when),
            cancel_reason = procrastinate_deps.describe_unmet(id, run_when),
            finished_at = now()
        WHERE id = ANY (doomed);
        DELETE FROM procrastinate_deps.job_blocks WHERE job_id = ANY (doomed);
        ended := doomed;
    END LOOP;

    IF cardinality(released) > 0 THEN
        WITH ready AS (
            UPDATE procrastinate_deps.jobs
            SET status = 'todo', ready_at = now(), gate = procrastinate_deps.gate_for(scheduled_at)
            WHERE id = ANY (released)
            RETURNING queue, gate
        )
        SELECT
            array_agg(DISTINCT queue) FILTER (WHERE gate IS NULL),
            array_agg(DISTINCT queue) FILTER (WHERE gate = 'scheduled')
        INTO queues, queues_scheduled
        FROM ready;
        IF queues IS NOT NULL THEN
            PERFORM procrastinate_deps.notify_queues(queues);
        END IF;
        IF queues_scheduled IS NOT NULL THEN
            PERFORM procrastinate_deps.notify_queues(queues_scheduled, true);
        END IF;
    END IF;
END
$$;
