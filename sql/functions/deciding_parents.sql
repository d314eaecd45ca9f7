-- The parents that have ended, deleted ones included, by which a rule is not met (or can't be any more). Inlined.
CREATE FUNCTION procrastinate_deps.deciding_parents(child bigint, rule procrastinate_deps.run_when)
RETURNS TABLE (id bigint, status procrastinate_deps.job_status)
LANGUAGE sql STABLE
AS $$
    SELECT parent.id, parent.status
    FROM (
        SELECT d.parent_id AS id, j.status, procrastinate_deps.parent_outcome(j.status, j.cancel_kind) AS outcome
        FROM procrastinate_deps.job_dependencies AS d
        JOIN procrastinate_deps.jobs AS j ON j.id = d.parent_id
        WHERE d.child_id = child
        UNION ALL
        SELECT x.parent_id, x.status, procrastinate_deps.parent_outcome(x.status, x.cancel_kind)
        FROM procrastinate_deps.deleted_parents AS x
        WHERE x.child_id = child
    ) AS parent
    WHERE CASE rule
        WHEN 'all_succeeded' THEN parent.outcome IN ('failed', 'cancelled', 'not_needed')
        WHEN 'none_failed' THEN parent.outcome = 'failed'
        WHEN 'all_failed' THEN parent.outcome IN ('succeeded', 'not_needed')
        ELSE parent.outcome <> 'live'
    END
$$;
