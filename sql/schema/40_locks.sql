-- One row per lock that a job has: a running one, or one it was granted to and that has not started yet. A job that waits
-- behind it (gate = 'lock') is handed the row by whoever makes the holder leave.
CREATE TABLE procrastinate_deps.locks (
    lock text COLLATE "C" PRIMARY KEY,
    -- no foreign key: see jobs.worker_id
    job_id bigint NOT NULL
)
WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);

-- Jobs of a paused queue are not fetched and stand in no lock's line.
CREATE TABLE procrastinate_deps.paused_queues (
    queue text COLLATE "C" PRIMARY KEY,
    paused_at timestamptz NOT NULL DEFAULT now()
);
