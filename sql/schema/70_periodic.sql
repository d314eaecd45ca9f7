-- One row per periodic task, with the last period that was deferred: so each period is deferred once, by whichever worker
-- comes first.
CREATE TABLE procrastinate_deps.periodic_tasks (
    -- seconds since the epoch: what the job got as its argument "timestamp"
    last_timestamp bigint,
    -- NULL: a job with its queueing_lock was waiting. No foreign key: jobs are deleted without regard to this table
    last_job_id bigint,
    last_deferred_at timestamptz,
    -- when a worker that knows the task was started last
    registered_at timestamptz NOT NULL DEFAULT now(),
    task_name text NOT NULL,
    periodic_id text NOT NULL,
    cron text NOT NULL,
    timezone text NOT NULL,
    -- an element of defer_jobs' batch; the timestamp is added to its args
    job jsonb NOT NULL,
    CONSTRAINT periodic_tasks_pkey PRIMARY KEY (task_name, periodic_id)
)
-- deferrals are heap-only updates
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
