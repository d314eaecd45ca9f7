-- As what a job is cancelled when its rule is not met.
CREATE FUNCTION procrastinate_deps.unmet_kind(rule procrastinate_deps.run_when)
RETURNS procrastinate_deps.cancel_kind
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE WHEN rule IN ('any_failed', 'all_failed') THEN 'not_needed' ELSE 'upstream' END
        ::procrastinate_deps.cancel_kind
$$;
