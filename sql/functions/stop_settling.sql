CREATE FUNCTION procrastinate_deps.stop_settling(before text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM set_config('procrastinate_deps_internal.settling', before, true);
END
$$;
