CREATE FUNCTION procrastinate_deps.refuse_missing(wanted bigint[], present bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    missing bigint[] := ARRAY(SELECT unnest(wanted) EXCEPT SELECT unnest(present) ORDER BY 1);
BEGIN
    RAISE EXCEPTION 'no such jobs to depend on: %', array_to_string(missing[1:20], ', ')
    USING ERRCODE = 'PD001', DETAIL = jsonb_build_object('ids', to_jsonb(missing)),
        HINT = 'They were never deferred, were deleted, or their deferral has not been committed yet.';
END
$$;
