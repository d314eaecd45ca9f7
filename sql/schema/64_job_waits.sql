-- Somebody waits for the end of a job: the statement that ends it notifies (observe_job_updates). A row is removed by the
-- one who waited, and taken for gone when its time is over. Not logged: who waits asks now and then, too.
CREATE UNLOGGED TABLE procrastinate_deps.job_waits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id bigint NOT NULL,
    until timestamptz NOT NULL
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- observe_job_updates
CREATE INDEX job_waits_job ON procrastinate_deps.job_waits (job_id);
