-- Which of these jobs are bound to be cancelled by their rule, and why: see doomed_among. For many jobs at once; ancestors
-- beyond max_looked_at count as undecided.
CREATE FUNCTION procrastinate_deps.doomed_jobs(ids bigint[], max_looked_at integer DEFAULT 100000)
RETURNS TABLE (job_id bigint, kind text, because bigint, root bigint, root_status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.job_id, d.kind::text, d.because, d.root, d.root_status::text
    FROM procrastinate_deps.doomed_among(procrastinate_deps.unfinished_ancestors(ids, max_looked_at)) AS d
    WHERE (d.job_id IN (SELECT unnest(ids))) IS TRUE
    ORDER BY d.job_id
$$;
