-- Which blocked jobs may it touch when these blocked jobs are cancelled by their rules? Read without locks, so only a guess:
-- it serves to lock in one pass, by id.
-- A child is followed further when its last live parents are among those that end and its rule is then not met; to
-- follow every rule that can cancel would lock all descendants at each finish.
-- PL/pgSQL, because a function in plain SQL that can't be inlined would be planned anew at each call.
CREATE FUNCTION procrastinate_deps.touched_by(doomed bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (WITH RECURSIVE touched (id, doomed, kind) AS (
        SELECT b.job_id, true, procrastinate_deps.unmet_kind(b.run_when)
        FROM procrastinate_deps.job_blocks AS b
        WHERE b.job_id = ANY (touched_by.doomed)
        UNION
        SELECT
            b.job_id,
            b.live <= count(*) OVER parents AND NOT procrastinate_deps.rule_met(
                b.run_when, b.succeeded,
                b.failed + (count(*) FILTER (WHERE touched.kind = 'upstream') OVER parents)::integer,
                b.cancelled,
                b.not_needed + (count(*) FILTER (WHERE touched.kind = 'not_needed') OVER parents)::integer),
            procrastinate_deps.unmet_kind(b.run_when)
        FROM touched
        -- OFFSET 0: look-ups, see count_ends
        CROSS JOIN LATERAL (
            SELECT e.child_id FROM procrastinate_deps.job_dependencies AS e WHERE e.parent_id = touched.id OFFSET 0
        ) AS d
        CROSS JOIN LATERAL (
            SELECT * FROM procrastinate_deps.job_blocks AS x WHERE x.job_id = d.child_id OFFSET 0
        ) AS b
        WHERE touched.doomed
        WINDOW parents AS (PARTITION BY b.job_id)
    )
    SELECT coalesce(array_agg(DISTINCT id), '{}') FROM touched);
END
$$;
