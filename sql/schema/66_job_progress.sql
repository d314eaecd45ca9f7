-- How far a running job has come, as it says itself: shown while claim is that of the job. Kept out of jobs, where each
-- report would rewrite the arguments and touch every index. No foreign key: see job_events.
CREATE TABLE procrastinate_deps.job_progress (
    job_id bigint PRIMARY KEY,
    claim bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done double precision NOT NULL,
    -- NULL: nobody knows how much there is to do
    total double precision,
    message text
)
-- reports are heap-only updates
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
