-- Stops fetching from a queue. Its jobs leave the lines of their locks, so that they are in nobody's way. False: it was
-- paused already.
CREATE FUNCTION procrastinate_deps.pause_queue(queue text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    PERFORM procrastinate_deps.take_pause_key();
    INSERT INTO procrastinate_deps.paused_queues (queue) VALUES (pause_queue.queue) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        PERFORM procrastinate_deps.stop_settling(settling);
        RETURN false;
    END IF;
    PERFORM procrastinate_deps.hand_over_locks(ARRAY(
        SELECT l.lock
        FROM procrastinate_deps.locks AS l
        JOIN procrastinate_deps.jobs AS j ON j.id = l.job_id
        WHERE j.status = 'todo' AND j.queue = pause_queue.queue));
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN true;
END
$$;
