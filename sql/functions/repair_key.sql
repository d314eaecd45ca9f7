-- The advisory key of who repairs, one at a time. Each schema has its own.
CREATE FUNCTION procrastinate_deps.repair_key() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT hashtextextended('procrastinate_deps', 9) $$;
