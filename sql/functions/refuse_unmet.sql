CREATE FUNCTION procrastinate_deps.refuse_unmet(job bigint) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    reason text := (SELECT procrastinate_deps.describe_unmet(id, run_when) FROM procrastinate_deps.jobs WHERE id = job);
BEGIN
    RAISE EXCEPTION 'job % can not be retried: its rule is not met (%)', job, reason
    USING ERRCODE = 'PD004',
        HINT = 'Retry the parents first, or retry this job with ignore_dependencies.',
        DETAIL = jsonb_build_object('job_id', job, 'parents',
            (SELECT jsonb_object_agg(p.parent_id, p.status) FROM procrastinate_deps.parent_statuses(job) AS p));
END
$$;
