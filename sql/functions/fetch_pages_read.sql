-- How many pages of the index of jobs that can start this transaction has read: the pages that a fetch walks, unlike the
-- time that it takes, do not depend on who else uses the machine.
CREATE FUNCTION procrastinate_deps.fetch_pages_read() RETURNS bigint
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN pg_stat_get_xact_blocks_fetched(to_regclass(format('%I.%I', 'procrastinate_deps', 'jobs_fetch')));
END
$$;
