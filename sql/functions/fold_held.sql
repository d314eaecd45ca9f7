-- Adds what is not folded to the rows of these workflows, which are held FOR NO KEY UPDATE by an earlier statement: so
-- that this one sees everything that was committed before it, and nobody else takes a part of it. What one snapshot sees
-- is the state after some commits and before the others; a workflow whose jobs have all ended in it has ended, and a job
-- that was added before the last of them ended is always seen with that end.
CREATE FUNCTION procrastinate_deps.fold_held(ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    ended json[];
BEGIN
    WITH gone AS (
        DELETE FROM procrastinate_deps.workflow_deltas AS d
        WHERE d.workflow_id = ANY (ids)
        RETURNING d.*, d.succeeded + d.failed + d.aborted + d.cancelled + d.upstream + d.not_needed AS ended
    ),
    news AS (
        SELECT
            g.workflow_id,
            -- of the last end; without one a workflow becomes finished when its last live job is deleted
            coalesce(max(g.at) FILTER (WHERE g.ended > 0), max(g.at)) AS at,
            coalesce(bool_or(g.ended > 0), false) AS something_ended,
            min(g.started) AS started, sum(g.total) AS total, sum(g.blocked) AS blocked, sum(g.ended) AS ended,
            sum(g.succeeded) AS succeeded, sum(g.failed) AS failed, sum(g.aborted) AS aborted,
            sum(g.cancelled) AS cancelled, sum(g.upstream) AS upstream, sum(g.not_needed) AS not_needed
        FROM gone AS g
        GROUP BY g.workflow_id
    ),
    state AS (
        SELECT
            n.*,
            w.succeeded + w.failed + w.aborted + w.cancelled + w.upstream + w.not_needed + n.ended
                = w.total + n.total AS finished
        FROM news AS n
        JOIN procrastinate_deps.workflows AS w ON w.id = n.workflow_id
    ),
    folded AS (
        UPDATE procrastinate_deps.workflows AS w
        SET total = w.total + s.total,
            blocked = w.blocked + s.blocked,
            succeeded = w.succeeded + s.succeeded,
            failed = w.failed + s.failed,
            aborted = w.aborted + s.aborted,
            cancelled = w.cancelled + s.cancelled,
            upstream = w.upstream + s.upstream,
            not_needed = w.not_needed + s.not_needed,
            started_at = coalesce(w.started_at, s.started),
            finished_at = CASE
                WHEN NOT s.finished THEN NULL
                WHEN w.finished_at IS NULL OR s.something_ended THEN s.at
                ELSE w.finished_at
            END,
            holds_name = w.holds_name AND NOT s.finished
        FROM state AS s
        WHERE w.id = s.workflow_id
        RETURNING w.id, coalesce(w.finished_at = s.at, false) AS has_ended
    )
    -- the view sees what this statement began with, which is the same, not added up
    SELECT array_agg(json_build_object('type', 'workflow_ended', 'workflow_id', s.id, 'status', s.status) ORDER BY s.id)
    INTO ended
    FROM folded AS f
    JOIN procrastinate_deps.workflow_states AS s ON s.id = f.id
    WHERE f.has_ended;
    PERFORM pg_notify('procrastinate_deps', e.payload::text) FROM unnest(ended) AS e (payload);
END
$$;
