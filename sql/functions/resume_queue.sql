-- Fetches from a queue again. Its jobs that were parked behind a lock which nobody has by now stand in line anew. False:
-- it was not paused.
CREATE FUNCTION procrastinate_deps.resume_queue(queue text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    PERFORM procrastinate_deps.take_pause_key();
    DELETE FROM procrastinate_deps.paused_queues AS p WHERE p.queue = resume_queue.queue;
    IF NOT FOUND THEN
        PERFORM procrastinate_deps.stop_settling(settling);
        RETURN false;
    END IF;
    UPDATE procrastinate_deps.jobs AS j
    SET gate = NULL
    WHERE j.status = 'todo' AND j.gate = 'lock' AND j.lock IS NOT NULL AND j.queue = resume_queue.queue
        AND NOT EXISTS (SELECT FROM procrastinate_deps.locks AS l WHERE l.lock = j.lock);
    -- and where a lock was granted meanwhile to a job that is not as good and has not started
    PERFORM procrastinate_deps.hand_over_locks(ARRAY(
        SELECT DISTINCT j.lock FROM procrastinate_deps.jobs AS j
        WHERE j.status = 'todo' AND j.gate = 'lock' AND j.lock IS NOT NULL AND j.queue = resume_queue.queue));
    PERFORM procrastinate_deps.notify_queues(ARRAY[resume_queue.queue]);
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN true;
END
$$;
