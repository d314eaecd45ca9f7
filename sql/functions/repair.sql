-- Mends what broken_invariants found: ids of one invariant, a batch of them at a time. Returns those that were indeed
-- broken and are mended. Everything is looked at again under the locks by which it could change, so that ids may be old,
-- or never broken: a healthy database stays as it is, whatever else goes on. When somebody holds what it needs for more
-- than lock_wait_ms milliseconds, nothing of the batch is mended, and '{}' is returned.
CREATE FUNCTION procrastinate_deps.repair(invariant text, ids bigint[], lock_wait_ms integer DEFAULT 5000)
RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
    lock_timeout_before text := current_setting('lock_timeout');
    repaired bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    PERFORM set_config('lock_timeout', lock_wait_ms::text, true);
    BEGIN
        PERFORM pg_advisory_xact_lock(procrastinate_deps.repair_key());
        CASE
            WHEN invariant IN (
                'a blocked job has counters', 'the counters of a blocked job are right', 'a blocked job has a live parent')
            THEN
                repaired := procrastinate_deps.repair_counters(ids);
            WHEN invariant IN ('only a blocked job has counters', 'counters belong to a job') THEN
                repaired := procrastinate_deps.repair_stray_counters(ids);
            WHEN invariant IN (
                'a todo job that was not claimed has no live parent', 'a job cancelled by its rule has no live parent')
            THEN
                repaired := procrastinate_deps.repair_early(ids);
            WHEN invariant = 'a job cancelled by its rule has the kind of its rule' THEN
                repaired := procrastinate_deps.repair_cancel_kinds(ids);
            WHEN invariant = 'a deleted parent is gone' THEN
                repaired := procrastinate_deps.repair_returned_parents(ids);
            WHEN invariant = 'an edge joins two jobs' THEN
                repaired := procrastinate_deps.repair_edges(ids);
            WHEN invariant IN (
                'a running job holds its lock', 'a job parked for a lock waits for somebody',
                'who holds a lock runs or may start')
            THEN
                repaired := procrastinate_deps.repair_locks(ids);
            WHEN invariant = 'the counts of a workflow are those of its jobs' THEN
                repaired := procrastinate_deps.repair_workflow_counts(ids);
            WHEN invariant = 'a live unique workflow has its name' THEN
                repaired := procrastinate_deps.repair_workflow_names(ids);
            WHEN invariant = 'a blocked job that depends on a whole workflow waits for each live job of it' THEN
                repaired := procrastinate_deps.repair_whole_workflows(ids);
            WHEN invariant IN (
                'a deleted parent had a child that is there', 'changes of counts belong to a workflow',
                'who depends on a whole workflow is a job', 'progress is that of a job', 'an event is that of a job')
            THEN
                repaired := procrastinate_deps.repair_orphans(ids);
            ELSE
                RAISE EXCEPTION 'there is no invariant %', quote_literal(invariant)
                USING ERRCODE = '22023', HINT = 'Take what broken_invariants() gives.';
        END CASE;
    EXCEPTION WHEN lock_not_available THEN
        repaired := '{}';
    END;
    PERFORM set_config('lock_timeout', lock_timeout_before, true);
    PERFORM procrastinate_deps.stop_settling(settling);
    RETURN coalesce(repaired, '{}');
END
$$;
