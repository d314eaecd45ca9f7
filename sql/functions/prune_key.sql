-- The advisory key under which ended jobs are deleted, one batch at a time. Each schema has its own.
CREATE FUNCTION procrastinate_deps.prune_key() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT hashtextextended('procrastinate_deps', 7) $$;
