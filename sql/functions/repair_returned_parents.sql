-- Parents on record as deleted that are there (their rows were restored, or somebody used the id again): the record is
-- dropped. A child that waits for nothing else of theirs depends on the job again; one that was decided stays so.
CREATE FUNCTION procrastinate_deps.repair_returned_parents(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    children bigint[];
    repaired bigint[];
    each record;
BEGIN
    PERFORM pg_advisory_xact_lock(procrastinate_deps.graph_key());
    children := ARRAY(
        SELECT DISTINCT x.child_id FROM procrastinate_deps.deleted_parents AS x WHERE x.parent_id = ANY (ids));
    PERFORM procrastinate_deps.hold_with_parents(children, false);
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (ids) ORDER BY id FOR KEY SHARE;
    FOR each IN
        WITH dropped AS (
            DELETE FROM procrastinate_deps.deleted_parents AS x
            WHERE x.child_id = ANY (children) AND x.parent_id = ANY (ids)
                AND EXISTS (SELECT FROM procrastinate_deps.jobs AS p WHERE p.id = x.parent_id)
            RETURNING x.child_id, x.parent_id
        )
        SELECT d.child_id, d.parent_id, c.status = 'blocked' AS waits
        FROM dropped AS d
        JOIN procrastinate_deps.jobs AS c ON c.id = d.child_id
        ORDER BY d.child_id, d.parent_id
    LOOP
        repaired := repaired || each.parent_id;
        IF each.waits AND procrastinate_deps.find_cycle(each.child_id, ARRAY[each.parent_id]) IS NULL THEN
            INSERT INTO procrastinate_deps.job_dependencies (parent_id, child_id)
            VALUES (each.parent_id, each.child_id)
            ON CONFLICT DO NOTHING;
        END IF;
    END LOOP;
    PERFORM procrastinate_deps.repair_counters(children);
    RETURN ARRAY(SELECT DISTINCT unnest(repaired) ORDER BY 1);
END
$$;
