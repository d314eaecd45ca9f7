-- Adds a worker's numbers to those of the minute that lies `age` back. A worker numbers what it sends, from 1: what it
-- sends again because no answer came is added once (false: it was added already). stats is a JSON array of objects whose
-- names are the columns of job_stats, at most one for each queue, task and status.
-- A row that someone else holds for more than a second is an error, 55P03: the worker tries again later.
CREATE FUNCTION procrastinate_deps.add_job_stats(worker_id bigint, batch bigint, age interval, stats jsonb)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
BEGIN
    UPDATE procrastinate_deps.workers AS w
    SET stats_batch = add_job_stats.batch
    WHERE w.id = add_job_stats.worker_id AND w.stats_batch < add_job_stats.batch;
    -- a worker that was lost and forgotten may still tell what it did
    IF NOT FOUND AND EXISTS (SELECT FROM procrastinate_deps.workers AS w WHERE w.id = add_job_stats.worker_id) THEN
        RETURN false;
    END IF;
    INSERT INTO procrastinate_deps.job_stats AS s (
        minute, queue, task_name, status, runs,
        run_sum, run_min, run_max, run_histogram, wait_sum, wait_min, wait_max, wait_histogram)
    SELECT
        date_trunc('minute', now() - age), x.queue, x.task_name, x.status, x.runs,
        x.run_sum, x.run_min, x.run_max, x.run_histogram, x.wait_sum, x.wait_min, x.wait_max, x.wait_histogram
    FROM jsonb_to_recordset(stats) AS x (
        queue text COLLATE "C", task_name text COLLATE "C", status procrastinate_deps.job_status, runs bigint,
        run_sum double precision, run_min double precision, run_max double precision, run_histogram integer[],
        wait_sum double precision, wait_min double precision, wait_max double precision, wait_histogram integer[])
    -- the order in which every worker takes the rows
    ORDER BY x.queue, x.task_name, x.status
    ON CONFLICT (minute, queue, task_name, status) DO UPDATE
    SET runs = s.runs + excluded.runs,
        run_sum = s.run_sum + excluded.run_sum,
        run_min = least(s.run_min, excluded.run_min),
        run_max = greatest(s.run_max, excluded.run_max),
        run_histogram = procrastinate_deps.add_histograms(s.run_histogram, excluded.run_histogram),
        wait_sum = s.wait_sum + excluded.wait_sum,
        wait_min = least(s.wait_min, excluded.wait_min),
        wait_max = greatest(s.wait_max, excluded.wait_max),
        wait_histogram = procrastinate_deps.add_histograms(s.wait_histogram, excluded.wait_histogram);
    RETURN true;
END
$$;
