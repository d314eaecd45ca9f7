-- By how much the counts of a workflow have changed since it was folded. Rows are added by whoever changes a job, in the
-- same transaction, and removed by who folds them into the workflow's row; none is ever updated, so that no finish waits
-- for another because of counts. No foreign key: it would lock the workflow's row at each finish.
CREATE TABLE procrastinate_deps.workflow_deltas (
    id bigint GENERATED ALWAYS AS IDENTITY,
    workflow_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- a job was claimed, and none that is folded had been before
    started timestamptz,
    total integer NOT NULL DEFAULT 0,
    blocked integer NOT NULL DEFAULT 0,
    succeeded integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    aborted integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    upstream integer NOT NULL DEFAULT 0,
    not_needed integer NOT NULL DEFAULT 0,
    CONSTRAINT workflow_deltas_pkey PRIMARY KEY (workflow_id, id)
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
