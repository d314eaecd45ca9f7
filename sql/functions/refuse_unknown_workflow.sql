CREATE FUNCTION procrastinate_deps.refuse_unknown_workflow(workflow bigint) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'there is no workflow %', workflow
    USING ERRCODE = 'PD009', DETAIL = jsonb_build_object('workflow_id', workflow),
        HINT = 'It was never deferred, was deleted, or its deferral has not been committed yet.';
END
$$;
