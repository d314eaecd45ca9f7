-- Before a job goes, its end (or that it was deleted live) is recorded for its children; they are settled when all rows of
-- the statement are gone (settle_edge_delete): to change a child here would fail when it is deleted by the same statement.
-- Children deleted earlier in this statement are not seen; one that someone else deletes meanwhile is dropped by the lock.
-- KEY SHARE is enough for a child whose counters stay as they are; less would let the new row's foreign key fail.
CREATE FUNCTION procrastinate_deps.record_deleted_parent() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    was_live boolean := procrastinate_deps.is_live(OLD.status);
BEGIN
    IF OLD.status = 'blocked' THEN
        DELETE FROM procrastinate_deps.job_blocks WHERE job_id = OLD.id;
    END IF;
    IF was_live THEN
        PERFORM procrastinate_deps.require_read_committed();
        PERFORM 1
        FROM procrastinate_deps.job_dependencies AS d
        JOIN procrastinate_deps.jobs AS c ON c.id = d.child_id
        WHERE d.parent_id = OLD.id
        ORDER BY c.id
        FOR NO KEY UPDATE OF c;
    ELSE
        PERFORM 1
        FROM procrastinate_deps.job_dependencies AS d
        JOIN procrastinate_deps.jobs AS c ON c.id = d.child_id
        WHERE d.parent_id = OLD.id
        ORDER BY c.id
        FOR KEY SHARE OF c;
    END IF;
    INSERT INTO procrastinate_deps.deleted_parents (child_id, parent_id, status, cancel_kind, was_live)
    SELECT c.id, OLD.id,
        CASE WHEN was_live THEN 'cancelled' ELSE OLD.status END,
        CASE WHEN was_live THEN 'manual' ELSE OLD.cancel_kind END,
        was_live
    FROM procrastinate_deps.job_dependencies AS d
    JOIN procrastinate_deps.jobs AS c ON c.id = d.child_id
    WHERE d.parent_id = OLD.id
    -- an id can be used again by hand
    ON CONFLICT (child_id, parent_id) DO UPDATE
    SET status = excluded.status, cancel_kind = excluded.cancel_kind, was_live = excluded.was_live;
    RETURN OLD;
END
$$;

CREATE TRIGGER record_deleted_parent BEFORE DELETE ON procrastinate_deps.jobs
FOR EACH ROW EXECUTE FUNCTION procrastinate_deps.record_deleted_parent();
