-- Inlined by the planner; so are the next small ones.
CREATE FUNCTION procrastinate_deps.is_live(status procrastinate_deps.job_status) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT status IN ('blocked', 'todo', 'doing') $$;
