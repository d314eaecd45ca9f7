-- Edges of these children whose parent is not there (it went while the triggers were off): it counts as one that was
-- deleted live. Edges of a child that is not there go.
CREATE FUNCTION procrastinate_deps.repair_edges(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    repaired bigint[];
BEGIN
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
    INSERT INTO procrastinate_deps.deleted_parents (child_id, parent_id, status, cancel_kind, was_live)
    SELECT d.child_id, d.parent_id, 'cancelled', 'manual', true
    FROM procrastinate_deps.job_dependencies AS d
    JOIN procrastinate_deps.jobs AS c ON c.id = d.child_id
    WHERE d.child_id = ANY (ids) AND NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS p WHERE p.id = d.parent_id)
    ON CONFLICT DO NOTHING;
    WITH gone AS (
        DELETE FROM procrastinate_deps.job_dependencies AS d
        WHERE d.child_id = ANY (ids) AND (
            NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS p WHERE p.id = d.parent_id)
            OR NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS c WHERE c.id = d.child_id))
        RETURNING d.child_id
    )
    SELECT array_agg(DISTINCT child_id ORDER BY child_id) INTO repaired FROM gone;
    PERFORM procrastinate_deps.repair_counters(repaired);
    RETURN repaired;
END
$$;
