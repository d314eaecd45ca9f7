-- By how much the counts of these workflows, folded and not, differ from their jobs (and those of the nested ones). All in
-- one snapshot: who changes a job notes it in the same transaction, so that no lock is needed to be sure.
CREATE FUNCTION procrastinate_deps.wrong_workflow_counts(ids bigint[])
RETURNS TABLE (
    workflow_id bigint, total bigint, blocked bigint, succeeded bigint, failed bigint, aborted bigint, cancelled bigint,
    upstream bigint, not_needed bigint
)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN QUERY
    SELECT
        s.id, m.total - s.total::bigint, m.blocked - s.blocked::bigint, m.succeeded - s.succeeded::bigint,
        m.failed - s.failed::bigint, m.aborted - s.aborted::bigint, m.cancelled - s.cancelled::bigint,
        m.upstream - s.upstream::bigint, m.not_needed - s.not_needed::bigint
    FROM procrastinate_deps.workflow_states AS s
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS total,
            count(*) FILTER (WHERE j.status = 'blocked') AS blocked,
            count(*) FILTER (WHERE j.status = 'succeeded') AS succeeded,
            count(*) FILTER (WHERE j.status = 'failed') AS failed,
            count(*) FILTER (WHERE j.status = 'aborted') AS aborted,
            count(*) FILTER (WHERE j.cancel_kind = 'manual') AS cancelled,
            count(*) FILTER (WHERE j.cancel_kind = 'upstream') AS upstream,
            count(*) FILTER (WHERE j.cancel_kind = 'not_needed') AS not_needed
        FROM unnest(procrastinate_deps.workflow_tree(ARRAY[s.id])) AS t (id)
        -- OFFSET 0: a look-up per workflow, see count_ends
        CROSS JOIN LATERAL (
            SELECT x.status, x.cancel_kind FROM procrastinate_deps.jobs AS x WHERE x.workflow_id = t.id OFFSET 0
        ) AS j
    ) AS m
    WHERE s.id = ANY (ids)
        AND (m.total, m.blocked, m.succeeded, m.failed, m.aborted, m.cancelled, m.upstream, m.not_needed)
            <> (s.total, s.blocked, s.succeeded, s.failed, s.aborted, s.cancelled, s.upstream, s.not_needed)
    ORDER BY s.id;
END
$$;
