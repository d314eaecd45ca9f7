-- Makes a job that has not been claimed depend on more jobs. An ended parent counts as it ended: the child may be
-- cancelled at once. Cycles are refused, also when two sessions try opposite edges at the same moment: the advisory lock
-- is taken by a statement of its own, so that the check, in the next, sees what the other session has committed.
CREATE FUNCTION procrastinate_deps.add_dependencies(child bigint, parents bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    settling text := procrastinate_deps.start_settling();
    job procrastinate_deps.jobs;
    cycle bigint[];
    present bigint[];
    r bigint;
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    parents := ARRAY(SELECT DISTINCT p FROM unnest(parents) AS p WHERE p IS NOT NULL ORDER BY p);
    PERFORM pg_advisory_xact_lock(procrastinate_deps.graph_key());
    cycle := procrastinate_deps.find_cycle(child, parents);
    IF cycle IS NOT NULL THEN
        RAISE EXCEPTION 'job % would wait for itself: %', child, CASE
            WHEN cardinality(cycle) <= 12 THEN array_to_string(cycle, ' -> ')
            ELSE concat_ws(' -> ', array_to_string(cycle[:6], ' -> '),
                format('... %s more ...', cardinality(cycle) - 11), array_to_string(cycle[cardinality(cycle) - 4:], ' -> '))
        END
        USING ERRCODE = 'PD003', DETAIL = jsonb_build_object('cycle', to_jsonb(cycle));
    END IF;
    -- all in one order, by id; the present parents too, since a child that becomes blocked is counted anew
    FOR r IN
        SELECT unnest(parents || child)
        UNION
        SELECT d.parent_id FROM procrastinate_deps.job_dependencies AS d WHERE d.child_id = child
        ORDER BY 1
    LOOP
        IF r = child THEN
            SELECT * INTO job FROM procrastinate_deps.jobs WHERE id = r FOR UPDATE;
        ELSE
            PERFORM 1 FROM procrastinate_deps.jobs WHERE id = r FOR KEY SHARE;
        END IF;
    END LOOP;
    IF job.id IS NULL THEN
        PERFORM procrastinate_deps.refuse_unknown_job(child);
    END IF;
    present := ARRAY(SELECT id FROM procrastinate_deps.jobs WHERE id = ANY (parents));
    IF cardinality(present) < cardinality(parents) THEN
        PERFORM procrastinate_deps.refuse_missing(parents, present);
    END IF;
    IF job.status NOT IN ('blocked', 'todo') OR (job.status = 'todo' AND job.started_at IS NOT NULL) THEN
        RAISE EXCEPTION 'job % can not get more parents: it is %', child,
            CASE WHEN job.status = 'todo' THEN 'between two attempts' ELSE job.status::text END
        USING ERRCODE = 'PD002', DETAIL = jsonb_build_object('job_id', child);
    END IF;
    IF cardinality(parents) = 0 THEN
        PERFORM procrastinate_deps.stop_settling(settling);
        RETURN;
    END IF;

    INSERT INTO procrastinate_deps.job_dependencies (parent_id, child_id)
    SELECT p, child FROM unnest(parents) AS p
    ON CONFLICT DO NOTHING;
    IF job.status = 'todo' THEN
        PERFORM procrastinate_deps.block_jobs(ARRAY[child]);
    ELSE
        PERFORM procrastinate_deps.recount_parents(ARRAY[child]);
    END IF;
    PERFORM procrastinate_deps.settle('{}', ARRAY[child]);
    PERFORM procrastinate_deps.release_locks(ARRAY[child]);
    PERFORM procrastinate_deps.stop_settling(settling);
END
$$;
