-- Locks that a running job does not hold, that nobody has though jobs are parked for them, or that somebody has who may
-- not. A running job gets its lock; any other line is handed over as when its holder leaves. Two running jobs of one lock
-- can't both have it: that is over when one of them ends.
CREATE FUNCTION procrastinate_deps.repair_locks(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    lines text[] := ARRAY(SELECT DISTINCT b.lock FROM procrastinate_deps.broken_lines(ids) AS b ORDER BY 1);
    broken bigint[];
BEGIN
    IF cardinality(lines) = 0 THEN
        RETURN '{}';
    END IF;
    -- who ends a running one holds its row, and releases the lock after that
    PERFORM 1
    FROM procrastinate_deps.jobs AS j
    WHERE j.id = ANY (ids) AND (j.status = 'doing') IS TRUE AND j.lock IS NOT NULL
    ORDER BY j.id
    FOR NO KEY UPDATE;
    PERFORM pg_advisory_xact_lock_shared(procrastinate_deps.pause_key());
    PERFORM 1 FROM procrastinate_deps.locks AS l WHERE l.lock = ANY (lines) ORDER BY l.lock FOR UPDATE;
    -- a new statement: nobody else changes these lines now, but for who creates the row of one that has none
    broken := ARRAY(SELECT b.job_id FROM procrastinate_deps.broken_lines(ids) AS b);
    INSERT INTO procrastinate_deps.locks (lock, job_id)
    SELECT DISTINCT ON (j.lock) j.lock, j.id
    FROM procrastinate_deps.jobs AS j
    WHERE j.id = ANY (broken) AND j.lock = ANY (lines) AND (j.status = 'doing' OR j.gate = 'lock') IS TRUE
        AND NOT EXISTS (SELECT FROM procrastinate_deps.locks AS l WHERE l.lock = j.lock)
    ORDER BY j.lock, j.status = 'doing' DESC, j.id
    ON CONFLICT DO NOTHING;
    UPDATE procrastinate_deps.locks AS l
    SET job_id = r.id
    FROM (
        SELECT DISTINCT ON (j.lock) j.lock, j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (ids) AND (j.status = 'doing') IS TRUE AND j.lock IS NOT NULL
        ORDER BY j.lock, j.id
    ) AS r
    WHERE l.lock = r.lock AND l.lock = ANY (lines) AND NOT EXISTS (
        SELECT FROM procrastinate_deps.jobs AS h
        WHERE h.id = l.job_id AND h.lock = l.lock AND (h.status = 'doing') IS TRUE);
    PERFORM procrastinate_deps.hand_over_locks(lines);
    RETURN ARRAY(
        SELECT unnest(broken) EXCEPT SELECT b.job_id FROM procrastinate_deps.broken_lines(ids) AS b ORDER BY 1);
END
$$;
