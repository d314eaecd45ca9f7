-- Lets the next fetches of this session begin behind these places: {queue: [~priority, id]}. full_look: how long the look
-- from the start took that was the reason; NULL: there was none now, and the time runs on. places NULL: from the start.
-- The setting is the session's own and only ever a hint: who loses it looks from the start.
CREATE FUNCTION procrastinate_deps.skip_dead_entries(queues text[], places jsonb, full_look interval) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    until float8;
BEGIN
    IF places IS NULL THEN
        PERFORM set_config('procrastinate_deps_internal.begin_at', '', false);
        RETURN;
    END IF;
    IF full_look IS NULL THEN
        until := (current_setting('procrastinate_deps_internal.begin_at', true)::jsonb ->> 'until')::float8;
    ELSE
        -- so that full looks cost at most a twentieth of the time
        until := extract(epoch FROM clock_timestamp() + least(20 * full_look, interval '1 s'));
    END IF;
    PERFORM set_config('procrastinate_deps_internal.begin_at', jsonb_build_object(
        'schema', 'procrastinate_deps', 'queues', queues, 'until', until, 'places', places)::text, false);
END
$$;
