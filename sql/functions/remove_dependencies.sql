-- Drops requirements of a job; returns how many. A blocked one is decided anew, a todo one stays.
-- Parents are locked before edges, as a DELETE of a parent does.
CREATE FUNCTION procrastinate_deps.remove_dependencies(child bigint, parents bigint[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    removed integer;
    forgotten integer;
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = ANY (parents) ORDER BY id FOR KEY SHARE;
    PERFORM 1 FROM procrastinate_deps.jobs WHERE id = child FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM procrastinate_deps.refuse_unknown_job(child);
    END IF;
    DELETE FROM procrastinate_deps.deleted_parents WHERE child_id = child AND parent_id = ANY (parents);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    DELETE FROM procrastinate_deps.job_dependencies WHERE child_id = child AND parent_id = ANY (parents);
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF forgotten > 0 THEN
        PERFORM procrastinate_deps.decide_anew(ARRAY[child]);
    END IF;
    RETURN removed + forgotten;
END
$$;
