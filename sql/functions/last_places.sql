-- The last of these jobs in each queue, in the order in which jobs are fetched: {queue: [~priority, id]}.
CREATE FUNCTION procrastinate_deps.last_places(ids bigint[]) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (
        SELECT jsonb_object_agg(last.queue, jsonb_build_array(last.rank, last.id))
        FROM (
            SELECT DISTINCT ON (j.queue) j.queue, ~j.priority AS rank, j.id
            FROM procrastinate_deps.jobs AS j
            WHERE j.id = ANY (ids)
            ORDER BY j.queue, ~j.priority DESC, j.id DESC
        ) AS last);
END
$$;
