-- Before jobs are added to existing workflows (growing), or made to depend on the whole of some (whole): from here to the
-- end of the transaction none of them is cancelled, retried or deleted, and to the latter nobody else adds jobs, since
-- those would miss their new dependent. Advisory locks first, by root, in statements of their own; then it is looked
-- whether the workflows are there and take jobs, and they are held.
CREATE FUNCTION procrastinate_deps.enter_workflows(growing bigint[], whole bigint[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    tree record;
    refused bigint;
    held bigint[];
BEGIN
    PERFORM procrastinate_deps.require_read_committed();
    FOR tree IN
        SELECT w.path[1] AS root, bool_or(w.id = ANY (whole)) AS alone
        FROM procrastinate_deps.workflows AS w
        WHERE w.id = ANY (growing || whole)
        GROUP BY w.path[1]
        ORDER BY w.path[1]
    LOOP
        IF tree.alone THEN
            PERFORM pg_advisory_xact_lock(procrastinate_deps.workflow_key(tree.root));
        ELSE
            PERFORM pg_advisory_xact_lock_shared(procrastinate_deps.workflow_key(tree.root));
        END IF;
    END LOOP;
    -- a plain DELETE takes no advisory lock; waited for in a foreign key its answer would be 23503
    held := ARRAY(
        SELECT w.id FROM procrastinate_deps.workflows AS w
        WHERE w.id = ANY (growing || whole) AND w.pruned_at IS NULL
        ORDER BY w.id FOR KEY SHARE);
    SELECT min(i.id) INTO refused FROM unnest(growing || whole) AS i (id) WHERE i.id <> ALL (held);
    IF refused IS NOT NULL THEN
        PERFORM procrastinate_deps.refuse_unknown_workflow(refused);
    END IF;
    SELECT min(w.id) INTO refused
    FROM procrastinate_deps.workflows AS w
    WHERE w.id = ANY (growing) AND w.cancel_requested_at IS NOT NULL;
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION 'workflow % was cancelled: it takes no more jobs', refused
        USING ERRCODE = 'PD011', DETAIL = jsonb_build_object('workflow_id', refused),
            HINT = 'Retry it (retry_workflow), which takes the cancellation back, or add the jobs to another one.';
    END IF;
END
$$;
