-- Jobs cancelled by their rule, but as another kind than it gives. Children that wait are counted anew; those that were
-- decided stay so.
CREATE FUNCTION procrastinate_deps.repair_cancel_kinds(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    children bigint[] := ARRAY(
        SELECT d.child_id
        FROM procrastinate_deps.job_dependencies AS d
        JOIN procrastinate_deps.job_blocks AS b ON b.job_id = d.child_id
        WHERE d.parent_id = ANY (ids));
    repaired bigint[];
BEGIN
    -- FOR UPDATE, though they stay terminal: who adds a child reads the kind
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (ids) ORDER BY id FOR UPDATE;
    WITH mended AS (
        UPDATE procrastinate_deps.jobs AS j
        SET cancel_kind = procrastinate_deps.unmet_kind(j.run_when)
        WHERE j.id = ANY (ids) AND (j.status = 'cancelled') IS TRUE AND j.cancel_kind <> 'manual'
            AND j.cancel_kind <> procrastinate_deps.unmet_kind(j.run_when)
        RETURNING j.id
    )
    SELECT array_agg(id ORDER BY id) INTO repaired FROM mended;
    PERFORM procrastinate_deps.repair_counters(children);
    RETURN repaired;
END
$$;
