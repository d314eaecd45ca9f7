-- Workflows are made by defer_graph; by hand only their name and their metadata may be changed.
CREATE FUNCTION procrastinate_deps.guard_workflow_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM procrastinate_deps.refuse_transition(
            'workflows can not be inserted by hand', 'Use defer_graph(workflows, batch).');
    ELSIF to_jsonb(NEW) - 'name' - 'metadata' <> to_jsonb(OLD) - 'name' - 'metadata' THEN
        PERFORM procrastinate_deps.refuse_transition(
            format('of workflow %s only the name and the metadata can be changed', OLD.id),
            'See cancel_workflow, retry_workflow and delete_workflow; its counts follow its jobs.');
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_workflow_write BEFORE INSERT OR UPDATE ON procrastinate_deps.workflows
FOR EACH ROW
WHEN (coalesce(current_setting('procrastinate_deps_internal.settling', true), '')
        <> concat('procrastinate_deps', ' ', pg_trigger_depth()))
EXECUTE FUNCTION procrastinate_deps.guard_workflow_write();
