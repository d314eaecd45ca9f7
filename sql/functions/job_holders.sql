-- The open transactions that keep these jobs, or their waiting dependents, from being settled: who holds a lock on a row.
-- xmax names the holder, or a multixact of several.
CREATE FUNCTION procrastinate_deps.job_holders(ids bigint[])
RETURNS TABLE (job_id bigint, pid integer, application_name text, state text, xact_start timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    j record;
    members xid[];
BEGIN
    FOR j IN
        WITH RECURSIVE held (id, root) AS (
            SELECT i, i FROM unnest(ids) AS i
            UNION
            SELECT d.child_id, held.root
            FROM held
            JOIN procrastinate_deps.job_dependencies AS d ON d.parent_id = held.id
            JOIN procrastinate_deps.job_blocks AS b ON b.job_id = d.child_id
        )
        SELECT held.root, jobs.xmax AS holder
        FROM held JOIN procrastinate_deps.jobs ON jobs.id = held.id
        WHERE jobs.xmax <> '0'::xid
        LIMIT 1000
    LOOP
        members := ARRAY[j.holder];
        BEGIN
            members := members || ARRAY(SELECT m.xid FROM pg_get_multixact_members(j.holder) AS m);
        EXCEPTION WHEN OTHERS THEN
            NULL; -- not a multixact, or one long gone: the plain number stands
        END;
        RETURN QUERY
        SELECT j.root, a.pid, a.application_name, a.state, a.xact_start
        FROM pg_locks AS l
        JOIN pg_stat_activity AS a ON a.pid = l.pid
        WHERE l.locktype = 'transactionid' AND l.granted AND l.transactionid = ANY (members)
            AND a.pid <> pg_backend_pid();
        CONTINUE WHEN FOUND;
        -- Of a savepoint that was released nothing says whose it was: it may be any transaction that began before it,
        -- is still open and has locked or written rows of the table.
        RETURN QUERY
        SELECT j.root, a.pid, a.application_name, a.state, a.xact_start
        FROM pg_stat_activity AS a
        WHERE a.pid <> pg_backend_pid() AND age(a.backend_xid) >= (SELECT min(age(m)) FROM unnest(members) AS m)
            AND EXISTS (
                SELECT FROM pg_locks AS l
                WHERE l.pid = a.pid AND l.granted AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
                    AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                    AND l.relation = format('%I.%I', 'procrastinate_deps', 'jobs')::regclass);
    END LOOP;
END
$$;
