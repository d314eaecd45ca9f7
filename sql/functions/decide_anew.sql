-- Counts the parents of these jobs, whose rows are held, again, and decides those that no longer wait for any.
CREATE FUNCTION procrastinate_deps.decide_anew(ids bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling(true);
    blocked bigint[] := ARRAY(
        SELECT j.id FROM procrastinate_deps.jobs AS j
        -- IS TRUE: by its primary key
        WHERE j.id = ANY (ids) AND (j.status = 'blocked') IS TRUE);
BEGIN
    IF cardinality(blocked) > 0 THEN
        PERFORM procrastinate_deps.recount_parents(blocked);
        PERFORM procrastinate_deps.settle('{}', blocked);
    END IF;
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
