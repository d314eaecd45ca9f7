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
-- Order. The touched children are guessed (touched_by) and locked in one statement by id. Without that, cascades
-- A -> x, z; B -> y; x -> y; y -> z deadlock although ids rise along every edge. A child outside the guess is locked by
-- its wave: correctness does not rest on the guess, only the order does.
-- Waves instead of recursion through triggers: a chain of 400 cancels would end in "stack depth limit exceeded".
CREATE FUNCTION procrastinate_deps.settle(ended bigint[], decide bigint[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    children bigint[];
    runnable bigint[];
    doomed bigint[];
    released bigint[] := '{}';
    first_wave boolean := true;
    queues text[];
    queues_scheduled text[];
BEGIN
    LOOP
        IF cardinality(ended) > 0 THEN
            IF first_wave THEN
                children := procrastinate_deps.touched_by(ended);
                first_wave := false;
            ELSE
                children := ARRAY(
                    SELECT DISTINCT d.child_id
                    FROM procrastinate_deps.job_dependencies AS d
                    JOIN procrastinate_deps.job_blocks AS b ON b.job_id = d.child_id
                    WHERE d.parent_id = ANY (ended));
            END IF;
            IF cardinality(children) > 0 THEN
                PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;
                -- a new statement: it sees what was committed while we waited
                WITH counted AS (
                    UPDATE procrastinate_deps.job_blocks AS b
                    SET live = b.live - e.ends,
                        succeeded = b.succeeded + e.succeeded,
                        failed = b.failed + e.failed,
                        cancelled = b.cancelled + e.cancelled,
                        not_needed = b.not_needed + e.not_needed
                    FROM procrastinate_deps.count_ends(ended) AS e
                    WHERE b.job_id = e.child_id
                    RETURNING b.job_id, b.live
                )
                SELECT decide || coalesce(array_agg(job_id), '{}') INTO decide FROM counted WHERE live = 0;
            END IF;
        END IF;
        EXIT WHEN cardinality(decide) = 0;

        SELECT
            array_agg(job_id) FILTER (
                WHERE procrastinate_deps.rule_met(run_when, succeeded, failed, cancelled, not_needed)),
            array_agg(job_id) FILTER (
                WHERE NOT procrastinate_deps.rule_met(run_when, succeeded, failed, cancelled, not_needed))
        INTO runnable, doomed
        FROM procrastinate_deps.job_blocks
        WHERE job_id = ANY (decide) AND live = 0;
        released := released || coalesce(runnable, '{}');
        EXIT WHEN doomed IS NULL;

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
        decide := '{}';
    END LOOP;

    IF cardinality(released) > 0 THEN
        DELETE FROM procrastinate_deps.job_blocks WHERE job_id = ANY (released);
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
        PERFORM procrastinate_deps.notify_queues(queues);
        PERFORM procrastinate_deps.notify_queues(queues_scheduled, true);
    END IF;
END
$$;
