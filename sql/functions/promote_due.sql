-- Opens the gate of the jobs whose time has come. Run by every fetch, whatever its queues: any worker helps.
CREATE FUNCTION procrastinate_deps.promote_due(max_jobs integer) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    due bigint[];
BEGIN
    due := ARRAY(
        SELECT id
        FROM procrastinate_deps.jobs
        WHERE status = 'todo' AND gate = 'scheduled' AND scheduled_at <= now()
        ORDER BY scheduled_at
        LIMIT max_jobs
        FOR NO KEY UPDATE SKIP LOCKED);
    IF cardinality(due) > 0 THEN
        UPDATE procrastinate_deps.jobs SET gate = NULL WHERE id = ANY (due);
        PERFORM procrastinate_deps.notify_queues(
            ARRAY(SELECT queue FROM procrastinate_deps.jobs WHERE id = ANY (due)));
    END IF;
END
$$;
