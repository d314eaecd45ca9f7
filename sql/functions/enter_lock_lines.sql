-- Which of these jobs, all with a lock, todo and held by this transaction, may start now? At most one per lock: the best
-- of its line, when nobody runs with the lock. The others are parked (gate = 'lock') behind the one that has it, and up
-- to 500 kin from the head of the same queues with them, so that a long line costs the fetch index little.
-- A lock whose row another transaction holds is contended: its jobs are left as they are, for a later fetch.
-- Fetching never waits here, but for the commit of another fetch that is just creating the same lock's row. Two that
-- create several in several rounds may deadlock; the one that PostgreSQL ends is sent again.
CREATE FUNCTION procrastinate_deps.enter_lock_lines(
    candidates bigint[], queues text[], OUT winners bigint[], OUT contended text[]
)
LANGUAGE plpgsql
AS $$
DECLARE
    lines text[] := ARRAY(
        SELECT DISTINCT j.lock FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (candidates) ORDER BY 1);
    known text[];
    held text[] := '{}';
    idle text[];
    heads bigint[];
    granted bigint[];
    busy text[];
    kin bigint[];
BEGIN
    winners := '{}';
    contended := lines;
    IF NOT pg_try_advisory_xact_lock_shared(procrastinate_deps.pause_key()) THEN
        RETURN;
    END IF;
    known := ARRAY(SELECT l.lock FROM procrastinate_deps.locks AS l WHERE l.lock = ANY (lines));
    IF cardinality(known) > 0 THEN
        held := ARRAY(
            SELECT l.lock FROM procrastinate_deps.locks AS l
            WHERE l.lock = ANY (known) ORDER BY l.lock FOR UPDATE SKIP LOCKED);
    END IF;
    IF cardinality(known) < cardinality(lines) THEN
        WITH created AS (
            INSERT INTO procrastinate_deps.locks (lock, job_id)
            SELECT DISTINCT ON (j.lock) j.lock, j.id
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = ANY (candidates) AND j.lock <> ALL (known)
            ORDER BY j.lock, j.priority DESC, j.id
            ON CONFLICT DO NOTHING
            RETURNING lock
        )
        SELECT held || coalesce(array_agg(lock), '{}') INTO held FROM created;
    END IF;

    -- A new statement: nobody else changes these lines now. Where nobody runs with the lock its best job gets it, even
    -- from one that was granted it and has not started.
    SELECT coalesce(array_agg(l.lock), '{}'), coalesce(array_agg(head.id), '{}')
    INTO idle, heads
    FROM procrastinate_deps.locks AS l
    LEFT JOIN LATERAL (
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.status = 'todo' AND j.lock = l.lock AND j.gate IS DISTINCT FROM 'scheduled'
            AND NOT EXISTS (SELECT FROM procrastinate_deps.paused_queues AS p WHERE p.queue = j.queue)
        ORDER BY j.priority DESC, j.id
        LIMIT 1
    ) AS head ON true
    WHERE l.lock = ANY (held)
        AND NOT EXISTS (
            SELECT FROM procrastinate_deps.jobs AS holder
            WHERE holder.id = l.job_id AND (holder.status = 'doing') IS TRUE AND holder.lock = l.lock);
    winners := ARRAY(SELECT unnest(heads) INTERSECT SELECT unnest(candidates));
    -- A head that is none of ours stands in another queue, or was parked and then raised: grant it, unless someone is
    -- changing it right now.
    granted := winners || ARRAY(
        SELECT j.id
        FROM unnest(idle, heads) AS h (lock, id)
        JOIN procrastinate_deps.jobs AS j ON j.id = h.id
        WHERE h.id <> ALL (winners) AND j.status = 'todo' AND j.lock = h.lock AND j.gate IS DISTINCT FROM 'scheduled'
        ORDER BY j.id
        FOR NO KEY UPDATE OF j SKIP LOCKED);
    UPDATE procrastinate_deps.locks AS l
    SET job_id = h.id
    FROM unnest(idle, heads) AS h (lock, id)
    WHERE l.lock = h.lock AND h.id = ANY (granted) AND l.job_id <> h.id;
    IF cardinality(granted) > cardinality(winners) THEN
        UPDATE procrastinate_deps.jobs SET gate = NULL WHERE id = ANY (granted) AND gate = 'lock';
        PERFORM procrastinate_deps.notify_queues(ARRAY(
            SELECT j.queue FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (granted) AND j.id <> ALL (winners)));
    END IF;
    IF cardinality(granted) < cardinality(idle) THEN
        -- no head: our queue was paused since we looked. The others are contended, and their rows stay as they were.
        DELETE FROM procrastinate_deps.locks AS l
        USING unnest(idle, heads) AS h (lock, id)
        WHERE l.lock = h.lock AND h.id IS NULL;
        held := ARRAY(
            SELECT unnest(held)
            EXCEPT
            SELECT h.lock FROM unnest(idle, heads) AS h (lock, id) WHERE h.id IS NULL OR h.id <> ALL (granted));
    END IF;
    contended := ARRAY(SELECT unnest(lines) EXCEPT SELECT unnest(held));
    busy := ARRAY(
        SELECT DISTINCT j.lock FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (candidates) AND j.id <> ALL (winners) AND j.lock = ANY (held));
    IF cardinality(busy) = 0 THEN
        RETURN;
    END IF;
    kin := ARRAY(
        SELECT near.id
        FROM unnest(queues) AS q (queue)
        CROSS JOIN LATERAL (
            SELECT j.id, j.lock
            FROM procrastinate_deps.jobs AS j
            WHERE j.status = 'todo' AND j.gate IS NULL AND j.queue = q.queue
            ORDER BY ~j.priority, j.id
            LIMIT 500
        ) AS near
        WHERE near.lock = ANY (busy));
    kin := ARRAY(
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        -- IS TRUE: by its primary key, as in fetch_jobs
        WHERE j.id = ANY (kin || candidates) AND (j.status = 'todo' AND j.gate IS NULL) IS TRUE AND j.lock = ANY (busy)
            AND j.id <> ALL (granted)
        ORDER BY j.id
        FOR NO KEY UPDATE SKIP LOCKED);
    UPDATE procrastinate_deps.jobs SET gate = 'lock' WHERE id = ANY (kin);
END
$$;
