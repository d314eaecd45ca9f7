-- An edge written by hand would skip the locks, the counters and the cycle check.
CREATE FUNCTION procrastinate_deps.guard_edge_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM procrastinate_deps.refuse_transition(
        'edges can not be inserted or changed by hand', 'Use add_dependencies(child, parents). Deleting edges is fine.');
    RETURN NULL;
END
$$;

CREATE TRIGGER guard_edge_write BEFORE INSERT OR UPDATE ON procrastinate_deps.job_dependencies
FOR EACH STATEMENT
WHEN (coalesce(current_setting('procrastinate_deps_internal.settling', true), '')
        <> concat('procrastinate_deps', ' ', pg_trigger_depth()))
EXECUTE FUNCTION procrastinate_deps.guard_edge_write();
