-- Plain SQL may end a live job, take a running one back to todo and revive a terminal one; whatever else would break an
-- invariant is refused. Our own functions set procrastinate_deps_internal.settling and answer for themselves.
-- Where liveness changes, either way, the row is taken FOR UPDATE: a plain UPDATE holds FOR NO KEY UPDATE, which lets a
-- deferral's KEY SHARE pass (716 children stuck in a stress run without this).
CREATE FUNCTION procrastinate_deps.guard_job_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (OLD.id, OLD.status, OLD.run_when, OLD.claim, OLD.ignores_dependencies, OLD.cancel_kind, OLD.gate, OLD.scheduled_at,
            OLD.queue, OLD.lock, OLD.started_at, OLD.worker_id, OLD.workflow_id, OLD.node)
        IS NOT DISTINCT FROM
        (NEW.id, NEW.status, NEW.run_when, NEW.claim, NEW.ignores_dependencies, NEW.cancel_kind, NEW.gate, NEW.scheduled_at,
            NEW.queue, NEW.lock, NEW.started_at, NEW.worker_id, NEW.workflow_id, NEW.node)
    THEN
        RETURN NEW;
    END IF;
    IF NEW.id <> OLD.id OR NEW.run_when <> OLD.run_when OR NEW.claim <> OLD.claim
        OR NEW.ignores_dependencies <> OLD.ignores_dependencies
        OR NEW.started_at IS DISTINCT FROM OLD.started_at OR NEW.worker_id IS DISTINCT FROM OLD.worker_id
        OR NEW.workflow_id IS DISTINCT FROM OLD.workflow_id OR NEW.node IS DISTINCT FROM OLD.node
    THEN
        PERFORM procrastinate_deps.refuse_transition(
            format('id, run_when, claim, worker_id, started_at, ignores_dependencies, workflow_id and node of job %s can '
                'not be changed', OLD.id),
            'Cancel the job and defer another one.');
    END IF;
    IF NEW.status = OLD.status THEN
        IF NEW.cancel_kind IS DISTINCT FROM OLD.cancel_kind THEN
            PERFORM procrastinate_deps.refuse_transition(
                format('cancel_kind of job %s can not be changed', OLD.id), 'Children were decided by it.');
        END IF;
        IF NEW.status = 'doing' AND NEW.lock IS DISTINCT FROM OLD.lock THEN
            PERFORM procrastinate_deps.refuse_transition(
                format('the lock of job %s can not be changed: it is running', OLD.id), 'Wait for its end, or abort it.');
        END IF;
    ELSIF procrastinate_deps.is_live(OLD.status) AND NOT procrastinate_deps.is_live(NEW.status) THEN
        PERFORM 1 FROM procrastinate_deps.jobs WHERE id = OLD.id FOR UPDATE;
        NEW.finished_at := now();
        IF NEW.status = 'cancelled' THEN
            NEW.cancel_kind := 'manual';
            NEW.cancel_reason := coalesce(NEW.cancel_reason, 'by hand');
        ELSE
            NEW.cancel_kind := NULL;
        END IF;
    ELSIF NEW.status = 'todo' AND NOT procrastinate_deps.is_live(OLD.status) THEN
        PERFORM 1 FROM procrastinate_deps.jobs WHERE id = OLD.id FOR UPDATE;
        NEW.finished_at := NULL;
        NEW.started_at := NULL;
        NEW.cancel_kind := NULL;
        NEW.cancel_reason := NULL;
        NEW.error := NULL;
        NEW.result := NULL;
        NEW.abort_requested := false;
        NEW.ignores_dependencies := false;
        NEW.rescues := 0;
        NEW.ready_at := now();
    ELSIF OLD.status = 'doing' AND NEW.status = 'todo' THEN
        NEW.abort_requested := false;
        NEW.ready_at := now();
    ELSE
        PERFORM procrastinate_deps.refuse_transition(
            format('job %s is %s and can not become %s', OLD.id, OLD.status, NEW.status),
            CASE
                WHEN OLD.status = 'blocked' THEN 'It runs when its parents have ended; see remove_dependencies and retry_job.'
                WHEN NEW.status = 'doing' THEN 'Jobs are claimed by fetch_jobs.'
                WHEN NEW.status = 'blocked' THEN 'See add_dependencies.'
                ELSE 'A job that has ended can only be put back to todo.'
            END);
    END IF;
    IF NEW.status <> 'todo' THEN
        NEW.gate := NULL;
    ELSIF NEW.scheduled_at > now() THEN
        NEW.gate := 'scheduled';
    ELSIF OLD.gate = 'lock' AND NEW.status = OLD.status AND NEW.lock = OLD.lock AND NEW.queue = OLD.queue THEN
        NEW.gate := 'lock';
    ELSE
        NEW.gate := NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER guard_job_update BEFORE UPDATE ON procrastinate_deps.jobs
FOR EACH ROW
-- no comparison of the rows here: PostgreSQL reads a trigger's condition anew for each of our own statements, too
WHEN (coalesce(current_setting('procrastinate_deps_internal.settling', true), '')
        <> concat('procrastinate_deps', ' ', pg_trigger_depth()))
EXECUTE FUNCTION procrastinate_deps.guard_job_update();
