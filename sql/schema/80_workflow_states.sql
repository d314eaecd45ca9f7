-- Each workflow as it stands: its row and what is not folded yet, added up in one snapshot. Exact at any moment, at the
-- cost of the deltas that nobody has folded, whatever the number of its jobs. Of the jobs that are neither blocked nor
-- ended some are running: they are counted apart, where they are wanted (get_workflow.sql).
CREATE VIEW procrastinate_deps.workflow_states AS
SELECT
    w.id,
    w.parent_id,
    w.path,
    w.name,
    w.metadata,
    w.is_unique,
    CASE
        WHEN c.ended < c.total THEN 'running'
        -- a cancel that came when all had succeeded has changed nothing
        WHEN w.cancel_requested_at IS NOT NULL AND (c.total = 0 OR c.succeeded + c.not_needed < c.total) THEN 'cancelled'
        WHEN c.failed + c.aborted + c.upstream > 0 THEN 'failed'
        WHEN c.cancelled > 0 THEN 'cancelled'
        ELSE 'succeeded'
    END AS status,
    c.total,
    c.blocked,
    c.ended,
    c.succeeded,
    c.failed,
    c.aborted,
    c.cancelled,
    c.upstream,
    c.not_needed,
    w.created_at,
    coalesce(w.started_at, d.started) AS started_at,
    CASE WHEN c.ended = c.total THEN
        CASE WHEN w.finished_at IS NULL OR d.ended_at IS NOT NULL THEN coalesce(d.ended_at, d.at) ELSE w.finished_at END
    END AS finished_at,
    w.cancel_requested_at,
    w.pruned_at
FROM procrastinate_deps.workflows AS w
CROSS JOIN LATERAL (
    SELECT
        min(x.started) AS started,
        max(x.at) AS at,
        max(x.at) FILTER (
            WHERE x.succeeded + x.failed + x.aborted + x.cancelled + x.upstream + x.not_needed > 0) AS ended_at,
        coalesce(sum(x.total), 0) AS total,
        coalesce(sum(x.blocked), 0) AS blocked,
        coalesce(sum(x.succeeded), 0) AS succeeded,
        coalesce(sum(x.failed), 0) AS failed,
        coalesce(sum(x.aborted), 0) AS aborted,
        coalesce(sum(x.cancelled), 0) AS cancelled,
        coalesce(sum(x.upstream), 0) AS upstream,
        coalesce(sum(x.not_needed), 0) AS not_needed
    FROM procrastinate_deps.workflow_deltas AS x
    WHERE x.workflow_id = w.id
) AS d
CROSS JOIN LATERAL (
    SELECT
        w.total + d.total AS total,
        w.blocked + d.blocked AS blocked,
        w.succeeded + d.succeeded AS succeeded,
        w.failed + d.failed AS failed,
        w.aborted + d.aborted AS aborted,
        w.cancelled + d.cancelled AS cancelled,
        w.upstream + d.upstream AS upstream,
        w.not_needed + d.not_needed AS not_needed,
        w.succeeded + w.failed + w.aborted + w.cancelled + w.upstream + w.not_needed
            + d.succeeded + d.failed + d.aborted + d.cancelled + d.upstream + d.not_needed AS ended
) AS c;
