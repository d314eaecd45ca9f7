-- TRUNCATE job_dependencies drops every requirement; TRUNCATE jobs CASCADE leaves no job to decide about.
CREATE FUNCTION procrastinate_deps.settle_edge_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    blocked bigint[] := ARRAY(SELECT id FROM procrastinate_deps.jobs WHERE status = 'blocked' ORDER BY id);
BEGIN
    DELETE FROM procrastinate_deps.workflow_dependents;
    IF cardinality(blocked) > 0 THEN
        PERFORM procrastinate_deps.require_read_committed();
        PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (blocked) ORDER BY id FOR NO KEY UPDATE;
        PERFORM procrastinate_deps.decide_anew(blocked);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER settle_edge_truncate AFTER TRUNCATE ON procrastinate_deps.job_dependencies
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_deps.settle_edge_truncate();
