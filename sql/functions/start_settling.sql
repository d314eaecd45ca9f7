-- From here to stop_settling the triggers on our tables leave what is written to the function that writes it. Returns how
-- it was before, for stop_settling. Not a SET clause of the functions: to write a setting of one's own there, PostgreSQL
-- demands a superuser. An error takes the setting back with everything else. It says whose tables and at what depth of
-- triggers: a trigger of a user's own on one of them, fired meanwhile, and another schema of ours are not meant.
CREATE FUNCTION procrastinate_deps.start_settling() RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    before text := coalesce(current_setting('procrastinate_deps_internal.settling', true), '');
BEGIN
    PERFORM set_config(
        'procrastinate_deps_internal.settling', concat('procrastinate_deps', ' ', pg_trigger_depth()), true);
    RETURN before;
END
$$;
