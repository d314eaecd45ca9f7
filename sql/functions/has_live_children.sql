-- Pruning and delete_jobs leave a job alone while an unfinished child still has it.
CREATE FUNCTION procrastinate_deps.has_live_children(parent bigint) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (
        SELECT
        FROM procrastinate_deps.job_dependencies AS d
        JOIN procrastinate_deps.jobs AS c ON c.id = d.child_id
        WHERE d.parent_id = parent AND c.status IN ('blocked', 'todo', 'doing'))
$$;
