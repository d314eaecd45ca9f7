CREATE FUNCTION procrastinate_deps.refuse_unknown_job(job bigint) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'there is no job %', job
    USING ERRCODE = 'PD007', DETAIL = jsonb_build_object('job_id', job),
        HINT = 'It was never deferred, was deleted, or its deferral has not been committed yet.';
END
$$;
