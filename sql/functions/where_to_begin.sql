-- Behind which job the fetches of this session begin in each queue: {queue: [~priority, id]}, as skip_dead_entries left it.
-- NULL: at the start. It was for these queues of this schema, and its time is not over.
CREATE FUNCTION procrastinate_deps.where_to_begin(queues text[]) RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
    kept jsonb := current_setting('procrastinate_deps_internal.begin_at', true)::jsonb;
BEGIN
    IF kept ->> 'schema' = 'procrastinate_deps' AND kept -> 'queues' IS NOT DISTINCT FROM coalesce(to_jsonb(queues), 'null')
        AND (kept ->> 'until')::float8 > extract(epoch FROM clock_timestamp())
    THEN
        RETURN kept -> 'places';
    END IF;
    PERFORM set_config('procrastinate_deps_internal.begin_at', '', false);
    RETURN NULL;
END
$$;
