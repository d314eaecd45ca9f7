-- Rows of tables without a foreign key whose job or workflow is gone, by its id. Nobody writes such a row but in the
-- transaction of, or while holding, what it belongs to: one snapshot is enough to tell.
CREATE FUNCTION procrastinate_deps.repair_orphans(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    repaired bigint[];
BEGIN
    WITH jobless AS (
        SELECT i.id FROM unnest(ids) AS i (id)
        WHERE NOT EXISTS (SELECT FROM procrastinate_deps.jobs AS j WHERE j.id = i.id)
    ),
    records AS (
        DELETE FROM procrastinate_deps.deleted_parents WHERE child_id IN (SELECT id FROM jobless) RETURNING child_id AS id
    ),
    dependents AS (
        DELETE FROM procrastinate_deps.workflow_dependents WHERE child_id IN (SELECT id FROM jobless)
        RETURNING child_id AS id
    ),
    progress AS (
        DELETE FROM procrastinate_deps.job_progress WHERE job_id IN (SELECT id FROM jobless) RETURNING job_id AS id
    ),
    events AS (
        DELETE FROM procrastinate_deps.job_events WHERE job_id IN (SELECT id FROM jobless) RETURNING job_id AS id
    ),
    deltas AS (
        DELETE FROM procrastinate_deps.workflow_deltas
        WHERE workflow_id IN (
            SELECT i.id FROM unnest(ids) AS i (id)
            WHERE NOT EXISTS (SELECT FROM procrastinate_deps.workflows AS w WHERE w.id = i.id))
        RETURNING workflow_id AS id
    )
    SELECT array_agg(DISTINCT x.id ORDER BY x.id)
    INTO repaired
    FROM (
        SELECT id FROM records
        UNION ALL SELECT id FROM dependents
        UNION ALL SELECT id FROM progress
        UNION ALL SELECT id FROM events
        UNION ALL SELECT id FROM deltas
    ) AS x;
    RETURN repaired;
END
$$;
