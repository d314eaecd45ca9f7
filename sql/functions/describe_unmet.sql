-- Why a job's rule is not met: the rule and the parents that decided it, at most five by name.
CREATE FUNCTION procrastinate_deps.describe_unmet(child bigint, rule procrastinate_deps.run_when) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (WITH deciding AS (
        SELECT parent.id, parent.status, row_number() OVER (ORDER BY parent.id) AS nth, count(*) OVER () AS total
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
    )
    SELECT rule || ': ' || string_agg('parent ' || id || ' ' || status, ', ' ORDER BY id)
        || CASE WHEN max(total) > 5 THEN ' and ' || max(total) - 5 || ' more' ELSE '' END
    FROM deciding
    WHERE nth <= 5);
END
$$;
