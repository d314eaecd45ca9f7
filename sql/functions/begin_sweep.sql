-- May this worker look for damage now? Not when another one began to within this interval. Nobody is waited for.
CREATE FUNCTION procrastinate_deps.begin_sweep(worker_id bigint, every interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(procrastinate_deps.repair_key()) THEN
        RETURN false;
    END IF;
    -- a new statement: it sees what the last one who had the key has written
    INSERT INTO procrastinate_deps.sweeps AS s (worker_id) VALUES (begin_sweep.worker_id)
    ON CONFLICT (only_row) DO UPDATE SET worker_id = excluded.worker_id, began_at = now()
    WHERE s.began_at < now() - every;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- of those who died while they waited
    DELETE FROM procrastinate_deps.job_waits WHERE until < now();
    RETURN true;
END
$$;
