-- What names a job to a person, and its status.
CREATE FUNCTION procrastinate_deps.job_in_brief(job procrastinate_deps.jobs) RETURNS jsonb
LANGUAGE sql STABLE
AS $$
    SELECT jsonb_build_object(
        'id', job.id, 'status', job.status, 'queue', job.queue, 'task', job.task_name, 'workflow_id', job.workflow_id,
        'node', job.node)
$$;
