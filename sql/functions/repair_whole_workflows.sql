-- Blocked jobs that depend on whole workflows and lack edges to live jobs of them: these are added, but for one that would
-- close a cycle.
CREATE FUNCTION procrastinate_deps.repair_whole_workflows(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    root bigint;
    child bigint;
    missing bigint[];
    repaired bigint[];
BEGIN
    -- nobody adds jobs to these workflows meanwhile: by root, see enter_workflows
    FOR root IN
        SELECT DISTINCT w.path[1]
        FROM procrastinate_deps.workflow_dependents AS d
        JOIN procrastinate_deps.workflows AS w ON w.id = d.workflow_id
        WHERE d.child_id = ANY (ids)
        ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(procrastinate_deps.workflow_key(root));
    END LOOP;
    PERFORM pg_advisory_xact_lock(procrastinate_deps.graph_key());
    FOREACH child IN ARRAY ids LOOP
        -- one statement: a child that is released meanwhile need not wait for jobs that were added after that
        missing := ARRAY(
            SELECT p.id
            FROM unnest(procrastinate_deps.workflow_tree(ARRAY(
                SELECT d.workflow_id FROM procrastinate_deps.workflow_dependents AS d WHERE d.child_id = child))) AS t (id)
            JOIN procrastinate_deps.jobs AS p ON p.workflow_id = t.id
            WHERE (p.status IN ('blocked', 'todo', 'doing')) IS TRUE AND p.id <> child
                AND EXISTS (
                    SELECT FROM procrastinate_deps.jobs AS c WHERE c.id = child AND (c.status = 'blocked') IS TRUE)
                AND NOT EXISTS (
                    SELECT FROM procrastinate_deps.job_dependencies AS e WHERE e.child_id = child AND e.parent_id = p.id)
            ORDER BY p.id);
        CONTINUE WHEN cardinality(missing) = 0;
        BEGIN
            -- takes its locks by id, for one child at a time: two of these jobs may meet another one that goes the other
            -- way round, and PostgreSQL then ends one of them, which is sent again
            PERFORM procrastinate_deps.add_dependencies(child, missing);
            repaired := repaired || child;
        EXCEPTION WHEN SQLSTATE 'PD001' OR SQLSTATE 'PD002' OR SQLSTATE 'PD003' OR SQLSTATE 'PD007' THEN
            NULL; -- it has started meanwhile, a job is gone, or the job waits for this child
        END;
    END LOOP;
    RETURN repaired;
END
$$;
