-- Deletes workflows that ended long enough ago, each with what is nested in it, if all its jobs ended in one of these ways
-- and no unfinished child outside has one of them; at most max_jobs jobs. Returns how many jobs. What it has begun to delete
-- is marked: nobody adds to it, and the next batch goes on with it.
CREATE FUNCTION procrastinate_deps.prune_workflows(older_than interval, statuses text[], max_jobs bigint) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    settling text;
    pruned bigint := 0;
    batch bigint;
    tree bigint[];
    jobs bigint[];
    locked integer := 0;
    held bigint;
    old record;
BEGIN
    FOR old IN
        SELECT w.id, w.pruned_at IS NOT NULL AS begun
        FROM procrastinate_deps.workflows AS w
        WHERE w.parent_id IS NULL AND w.finished_at < now() - older_than
            AND (w.pruned_at IS NOT NULL OR (
                (w.succeeded = 0 OR 'succeeded' = ANY (statuses))
                AND (w.failed = 0 OR 'failed' = ANY (statuses))
                AND (w.aborted = 0 OR 'aborted' = ANY (statuses))
                AND (w.cancelled + w.upstream + w.not_needed = 0 OR 'cancelled' = ANY (statuses))))
        ORDER BY w.finished_at
    LOOP
        -- a server has room for some thousand locks, and each is held until the end: none for what stays, and no more
        EXIT WHEN pruned >= max_jobs OR locked >= 1000;
        tree := procrastinate_deps.workflow_tree(ARRAY[old.id]);
        IF NOT old.begun THEN
            PERFORM 1
            FROM procrastinate_deps.jobs AS j
            WHERE j.workflow_id = ANY (tree) AND procrastinate_deps.has_live_children(j.id)
            LIMIT 1;
            CONTINUE WHEN FOUND;
        END IF;
        -- who is just adding to it, or retries it, comes first
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(procrastinate_deps.workflow_key(old.id));
        locked := locked + 1;
        tree := procrastinate_deps.workflow_tree(ARRAY[old.id]);
        IF NOT old.begun THEN
            -- new statements, now that nobody can add to it
            PERFORM 1
            FROM procrastinate_deps.workflow_states AS s
            WHERE s.id = old.id AND s.ended = s.total AND s.finished_at < now() - older_than
                AND (s.succeeded = 0 OR 'succeeded' = ANY (statuses))
                AND (s.failed = 0 OR 'failed' = ANY (statuses))
                AND (s.aborted = 0 OR 'aborted' = ANY (statuses))
                AND (s.cancelled + s.upstream + s.not_needed = 0 OR 'cancelled' = ANY (statuses));
            CONTINUE WHEN NOT FOUND;
            -- all of them, or not this time: until the mark is there none is retried, nor gets a child
            PERFORM 1
            FROM procrastinate_deps.jobs AS j
            WHERE j.workflow_id = ANY (tree)
            ORDER BY j.id
            FOR UPDATE SKIP LOCKED;
            GET DIAGNOSTICS held = ROW_COUNT;
            PERFORM 1
            FROM procrastinate_deps.jobs AS j
            WHERE j.workflow_id = ANY (tree)
            HAVING count(*) > held
                OR bool_or(j.finished_at IS NULL OR procrastinate_deps.has_live_children(j.id));
            CONTINUE WHEN FOUND;
            settling := procrastinate_deps.start_settling();
            UPDATE procrastinate_deps.workflows AS w SET pruned_at = now() WHERE w.id = ANY (tree);
            PERFORM procrastinate_deps.stop_settling(settling);
        END IF;
        jobs := ARRAY(
            SELECT j.id
            FROM procrastinate_deps.jobs AS j
            WHERE j.workflow_id = ANY (tree) AND (j.finished_at IS NOT NULL) IS TRUE
            ORDER BY j.id
            LIMIT max_jobs - pruned
            FOR UPDATE OF j SKIP LOCKED);
        DELETE FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (jobs) AND NOT procrastinate_deps.has_live_children(j.id);
        GET DIAGNOSTICS batch = ROW_COUNT;
        pruned := pruned + batch;
        PERFORM 1 FROM procrastinate_deps.jobs AS j WHERE j.workflow_id = ANY (tree) LIMIT 1;
        IF NOT FOUND THEN
            DELETE FROM procrastinate_deps.workflows AS w WHERE w.id = old.id;
        END IF;
    END LOOP;
    RETURN pruned;
END
$$;
