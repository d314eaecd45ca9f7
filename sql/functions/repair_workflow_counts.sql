-- Workflows whose counts are not those of their jobs: the difference is noted as any other change is, and folded. Found
-- and noted by one statement: what is committed meanwhile brings its own change along. (Two that repair at once would both
-- note it: repair_key keeps them apart.)
CREATE FUNCTION procrastinate_deps.repair_workflow_counts(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    repaired bigint[];
BEGIN
    WITH noted AS (
        INSERT INTO procrastinate_deps.workflow_deltas
            (workflow_id, total, blocked, succeeded, failed, aborted, cancelled, upstream, not_needed)
        SELECT
            w.workflow_id, w.total, w.blocked, w.succeeded, w.failed, w.aborted, w.cancelled, w.upstream, w.not_needed
        FROM procrastinate_deps.wrong_workflow_counts(ids) AS w
        RETURNING workflow_id
    )
    SELECT array_agg(n.workflow_id ORDER BY n.workflow_id) INTO repaired FROM noted AS n;
    IF repaired IS NOT NULL THEN
        PERFORM procrastinate_deps.fold_workflows(repaired, cardinality(repaired));
    END IF;
    RETURN repaired;
END
$$;
