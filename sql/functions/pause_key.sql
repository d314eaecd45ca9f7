-- The advisory key that orders granting a lock (shared) against pausing and resuming queues (exclusive): a lock is never
-- left with a job whose queue was paused meanwhile. Each schema has its own.
CREATE FUNCTION procrastinate_deps.pause_key() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT hashtextextended('procrastinate_deps', 1) $$;
