-- A job inserted by hand: todo and without parents (those need defer_jobs). Its gate follows from its schedule.
CREATE FUNCTION procrastinate_deps.guard_job_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.status <> 'todo' OR NEW.claim <> 0 THEN
        PERFORM procrastinate_deps.refuse_transition(
            format('a job can not be inserted as %s', NEW.status), 'Insert it as todo, or use defer_jobs.');
    END IF;
    IF NEW.workflow_id IS NOT NULL THEN
        PERFORM procrastinate_deps.enter_workflows(ARRAY[NEW.workflow_id]);
    END IF;
    NEW.gate := procrastinate_deps.gate_for(NEW.scheduled_at);
    PERFORM procrastinate_deps.notify_queues(ARRAY[NEW.queue]);
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_job_insert BEFORE INSERT ON procrastinate_deps.jobs
FOR EACH ROW
WHEN (coalesce(current_setting('procrastinate_deps_internal.settling', true), '')
        <> concat('procrastinate_deps', ' ', pg_trigger_depth()))
EXECUTE FUNCTION procrastinate_deps.guard_job_insert();
