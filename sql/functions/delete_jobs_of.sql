-- Deletes the jobs of these workflows; returns how many. Locked by id first: the DELETE itself has an order of its own.
-- Then the edges by which they are children go, unsettled: only children elsewhere are left to be told of the deletion.
-- (Left to the foreign keys and to record_deleted_parent, edge by edge, 30,000 jobs took 9 s.)
CREATE FUNCTION procrastinate_deps.delete_jobs_of(workflows bigint[]) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    settling text;
    held bigint[];
    deleted bigint;
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    held := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j WHERE j.workflow_id = ANY (workflows) ORDER BY j.id FOR UPDATE);
    settling := procrastinate_deps.start_settling();
    DELETE FROM procrastinate_deps.job_dependencies AS d WHERE d.child_id = ANY (held);
    DELETE FROM procrastinate_deps.job_blocks AS b WHERE b.job_id = ANY (held);
    PERFORM procrastinate_deps.stop_settling(settling);
    DELETE FROM procrastinate_deps.jobs AS j WHERE j.id = ANY (held);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$$;
