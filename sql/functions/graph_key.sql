-- The advisory key under which edges are added between existing jobs, one session at a time. Each schema has its own.
CREATE FUNCTION procrastinate_deps.graph_key() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT hashtextextended('procrastinate_deps', 2) $$;
