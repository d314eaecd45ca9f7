-- The advisory key of a whole tree of workflows, by its root: shared by who adds jobs to one of them, exclusive for who
-- cancels, retries or deletes one, or makes a child depend on the whole of one. Each schema has its own.
CREATE FUNCTION procrastinate_deps.workflow_key(root bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT hashtextextended(concat('procrastinate_deps', ' ', root), 8) $$;
