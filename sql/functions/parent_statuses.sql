-- The direct parents of a job and how they stand, deleted ones included, by id.
CREATE FUNCTION procrastinate_deps.parent_statuses(job_id bigint) RETURNS TABLE (parent_id bigint, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.parent_id, j.status::text
    FROM procrastinate_deps.job_dependencies AS d
    JOIN procrastinate_deps.jobs AS j ON j.id = d.parent_id
    WHERE d.child_id = parent_statuses.job_id
    UNION ALL
    SELECT x.parent_id, x.status::text
    FROM procrastinate_deps.deleted_parents AS x
    WHERE x.child_id = parent_statuses.job_id
    ORDER BY 1
$$;
