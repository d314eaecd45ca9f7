-- When a worker last began to look for damage: one row, so that it is done at the same rate whatever the number of workers.
CREATE TABLE procrastinate_deps.sweeps (
    worker_id bigint NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    only_row boolean PRIMARY KEY DEFAULT true,
    CONSTRAINT sweeps_only_row CHECK (only_row)
);
