-- The graph. A child waits for each of its parents; deleting either job deletes the edge and no other job.
CREATE TABLE procrastinate_deps.job_dependencies (
    parent_id bigint NOT NULL,
    child_id bigint NOT NULL,
    -- count_parents, get_parents: the parents of a child
    CONSTRAINT job_dependencies_pkey PRIMARY KEY (child_id, parent_id),
    CONSTRAINT job_dependencies_parent_fkey
        FOREIGN KEY (parent_id) REFERENCES procrastinate_deps.jobs (id) ON DELETE CASCADE,
    CONSTRAINT job_dependencies_child_fkey
        FOREIGN KEY (child_id) REFERENCES procrastinate_deps.jobs (id) ON DELETE CASCADE,
    CONSTRAINT job_dependencies_not_itself CHECK (parent_id <> child_id)
)
WITH (autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 20000);

-- settle, touched_by, get_children, the cascade of a deleted parent: the children of a parent
CREATE INDEX job_dependencies_parent ON procrastinate_deps.job_dependencies (parent_id, child_id);

-- One narrow row per blocked job: how many parents are still live, and what the ends of the others mean. It is storage,
-- never a lock: only who holds the job's own row writes it. Kept out of jobs because a decrement there would rewrite the
-- arguments and touch every index; here each decrement is a heap-only update (measured: twice as fast).
-- No foreign key: checking it would take locks on jobs that the settling protocol must not take.
CREATE TABLE procrastinate_deps.job_blocks (
    job_id bigint PRIMARY KEY,
    run_when procrastinate_deps.run_when NOT NULL,
    live integer NOT NULL,
    succeeded integer NOT NULL,
    -- failed, aborted, or cancelled as upstream
    failed integer NOT NULL,
    -- cancelled by hand, or deleted while live
    cancelled integer NOT NULL,
    -- cancelled as not_needed
    not_needed integer NOT NULL,
    CONSTRAINT job_blocks_not_negative
        CHECK (live >= 0 AND succeeded >= 0 AND failed >= 0 AND cancelled >= 0 AND not_needed >= 0)
)
WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000
);

-- What the end of a deleted parent was: it goes on counting for its children, so that a purge can never turn a failed
-- parent into a success.
CREATE TABLE procrastinate_deps.deleted_parents (
    child_id bigint NOT NULL,
    parent_id bigint NOT NULL,
    status procrastinate_deps.job_status NOT NULL,
    cancel_kind procrastinate_deps.cancel_kind,
    was_live boolean NOT NULL,
    CONSTRAINT deleted_parents_pkey PRIMARY KEY (child_id, parent_id),
    CONSTRAINT deleted_parents_child_fkey
        FOREIGN KEY (child_id) REFERENCES procrastinate_deps.jobs (id) ON DELETE CASCADE,
    CONSTRAINT deleted_parents_terminal
        CHECK (status IN ('succeeded', 'failed', 'cancelled', 'aborted')),
    CONSTRAINT deleted_parents_cancelled_has_kind CHECK ((status = 'cancelled') = (cancel_kind IS NOT NULL))
);
