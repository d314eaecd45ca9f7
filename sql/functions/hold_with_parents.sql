-- Locks jobs that are about to be counted anew: themselves, FOR UPDATE where their liveness may change, and their parents
-- FOR KEY SHARE, all in one order, by id. The caller's next statement sees how they stand now.
CREATE FUNCTION procrastinate_deps.hold_with_parents(children bigint[], liveness_changes boolean) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT x.id, bool_or(x.child) AS child
        FROM (
            SELECT unnest(children) AS id, true AS child
            UNION ALL
            SELECT d.parent_id, false FROM procrastinate_deps.job_dependencies AS d WHERE d.child_id = ANY (children)
        ) AS x
        GROUP BY x.id
        ORDER BY x.id
    LOOP
        IF NOT r.child THEN
            PERFORM 1 FROM procrastinate_deps.jobs WHERE id = r.id FOR KEY SHARE;
        ELSIF liveness_changes THEN
            PERFORM 1 FROM procrastinate_deps.jobs WHERE id = r.id FOR UPDATE;
        ELSE
            PERFORM 1 FROM procrastinate_deps.jobs WHERE id = r.id FOR NO KEY UPDATE;
        END IF;
    END LOOP;
END
$$;
