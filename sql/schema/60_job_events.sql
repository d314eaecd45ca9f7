-- What is not to be read off the job itself: attempts before the last, rescues, and what was done by hand. A job that
-- succeeds at its first attempt writes none (measured: three inserts a job cost as much as fetching it).
CREATE TABLE procrastinate_deps.job_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- no foreign key: its check would lock the job's row and make the job's end wait
    job_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    worker_id bigint,
    attempt integer NOT NULL,
    type text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT job_events_type CHECK (type IN
        ('attempt_failed', 'requeued', 'rescued', 'retried', 'cancelled', 'abort_requested', 'ended'))
);

-- list_events, and the clean-up after a deleted job
CREATE INDEX job_events_job ON procrastinate_deps.job_events (job_id, id);
