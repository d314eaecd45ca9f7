-- Which of these jobs were released or cancelled by their rule while a parent is live? A parent that was retried on the
-- understanding that its dependents stay as they are excuses them.
CREATE FUNCTION procrastinate_deps.decided_early(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN ARRAY(
        SELECT j.id
        FROM procrastinate_deps.jobs AS j
        WHERE j.id = ANY (ids)
            AND ((j.status = 'todo' AND j.started_at IS NULL AND NOT j.ignores_dependencies)
                OR (j.status = 'cancelled' AND j.cancel_kind <> 'manual')) IS TRUE
            AND EXISTS (
                SELECT
                FROM procrastinate_deps.job_dependencies AS d
                JOIN procrastinate_deps.jobs AS p ON p.id = d.parent_id
                WHERE d.child_id = j.id AND (p.status IN ('blocked', 'todo', 'doing')) IS TRUE
                    AND NOT EXISTS (
                        SELECT FROM procrastinate_deps.job_events AS e
                        WHERE e.job_id = p.id AND e.type = 'retried' AND e.detail ->> 'reset_dependents' = 'false'))
        ORDER BY j.id);
END
$$;
