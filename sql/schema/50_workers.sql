CREATE TABLE procrastinate_deps.workers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    -- declared lost: its jobs are rescued, and it can neither renew its heartbeat nor fetch
    lost_at timestamptz,
    -- the number of the last batch of numbers that it added to job_stats
    stats_batch bigint NOT NULL DEFAULT 0,
    pid integer NOT NULL,
    concurrency integer NOT NULL,
    name text NOT NULL,
    hostname text NOT NULL,
    version text NOT NULL,
    -- NULL: every queue
    queues text[],
    CONSTRAINT workers_concurrency_positive CHECK (concurrency > 0)
)
-- heartbeats are heap-only updates
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
