-- What workers' runs came to, for charts: each worker adds its numbers every 10 s (add_job_stats), outside of any finish.
-- One row for all workers, not one for each: rows of their own would be as many times more for 7 days, to save waits of a
-- millisecond. A worker holds rows only while its one statement runs, a hundredth of a per cent of its time; all workers
-- take them in the order of the key, so that none waits in a circle.
CREATE TABLE procrastinate_deps.job_stats (
    -- by the database's clock
    minute timestamptz NOT NULL,
    runs bigint NOT NULL,
    -- seconds from the start of a run to its end
    run_sum double precision NOT NULL,
    run_min double precision NOT NULL,
    run_max double precision NOT NULL,
    -- seconds that the job was ready to run before it was claimed
    wait_sum double precision NOT NULL,
    wait_min double precision NOT NULL,
    wait_max double precision NOT NULL,
    -- what the run made of its job; todo: it failed, and will be retried
    status procrastinate_deps.job_status NOT NULL,
    -- '': of more queues and tasks than a worker keeps apart
    queue text COLLATE "C" NOT NULL,
    task_name text COLLATE "C" NOT NULL,
    -- element i: runs of less than 0.1 ms * 2 ^ ((i - 1) / 2), and no less than the element before; trailing zeros are left
    -- out, the 61st has no upper bound (procrastinate_deps/durations.py)
    run_histogram integer[] NOT NULL,
    wait_histogram integer[] NOT NULL,
    CONSTRAINT job_stats_pkey PRIMARY KEY (minute, queue, task_name, status),
    CONSTRAINT job_stats_runs_positive CHECK (runs > 0)
)
-- a row is updated for a minute, six times by each worker, and never again: those updates are heap-only
WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
