-- What settle does for the children of these jobs, whose rows are held FOR UPDATE, but by counting all their parents again:
-- for when somebody may have counted one of these ends already.
CREATE FUNCTION procrastinate_deps.settle_anew(ended bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    children bigint[] := ARRAY(
        SELECT DISTINCT d.child_id FROM procrastinate_deps.job_dependencies AS d WHERE d.parent_id = ANY (ended));
BEGIN
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (children) ORDER BY id FOR NO KEY UPDATE;
    -- a new statement: how they stand now that they are held
    PERFORM procrastinate_deps.decide_anew(children);
END
$$;
