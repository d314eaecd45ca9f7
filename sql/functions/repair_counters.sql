-- Blocked jobs whose counters are wrong or missing, or that wait for nobody: counted anew and, where they should be
-- waiting no longer, decided.
CREATE FUNCTION procrastinate_deps.repair_counters(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
AS $$
DECLARE
    wrong bigint[] := procrastinate_deps.wrong_counters(ids);
BEGIN
    IF cardinality(wrong) = 0 THEN
        RETURN '{}';
    END IF;
    PERFORM procrastinate_deps.hold_with_parents(wrong, false);
    -- a new statement: what stands there now that nobody else can change it
    wrong := procrastinate_deps.wrong_counters(wrong);
    IF cardinality(wrong) > 0 THEN
        DELETE FROM procrastinate_deps.job_blocks WHERE job_id = ANY (wrong);
        INSERT INTO procrastinate_deps.job_blocks (job_id, run_when, live, succeeded, failed, cancelled, not_needed)
        SELECT c.job_id, j.run_when, c.live, c.succeeded, c.failed, c.cancelled, c.not_needed
        FROM procrastinate_deps.count_parents(wrong) AS c
        JOIN procrastinate_deps.jobs AS j ON j.id = c.job_id;
        PERFORM procrastinate_deps.settle('{}', wrong);
    END IF;
    RETURN wrong;
END
$$;
