-- A child that depends on a whole workflow: on every job of it and of those nested in it, also on jobs that are added to it
-- while the child waits. The edges themselves stand in job_dependencies.
CREATE TABLE procrastinate_deps.workflow_dependents (
    workflow_id bigint NOT NULL,
    -- no foreign key: clean_up_deleted_jobs removes them, once for all the jobs of a DELETE
    child_id bigint NOT NULL,
    CONSTRAINT workflow_dependents_pkey PRIMARY KEY (workflow_id, child_id),
    CONSTRAINT workflow_dependents_workflow_fkey
        FOREIGN KEY (workflow_id) REFERENCES procrastinate_deps.workflows (id) ON DELETE CASCADE
);

-- clean_up_deleted_jobs
CREATE INDEX workflow_dependents_child ON procrastinate_deps.workflow_dependents (child_id);
