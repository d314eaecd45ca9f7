CREATE FUNCTION procrastinate_deps.refuse_started_child(child bigint, status procrastinate_deps.job_status) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'job % can not get more parents: it is %', child,
        CASE WHEN status = 'todo' THEN 'between two attempts' ELSE status::text END
    USING ERRCODE = 'PD002', DETAIL = jsonb_build_object('job_id', child);
END
$$;
