-- From here to stop_settling the triggers on our tables leave what is written to the function that writes it. Returns how
-- it was before, for stop_settling. Not a SET clause of the functions: to write a setting of one's own there, PostgreSQL
-- demands a superuser. An error takes the setting back with everything else. It says whose tables and at what depth of
-- triggers: a trigger of a user's own on one of them, fired meanwhile, and another schema of ours are not meant.
-- Where such a trigger calls one of our functions, that one may see jobs as ended whose children are not settled yet, and
-- count them so: this is noted for the rest of the transaction, and end_jobs then counts anew, not down. by_our_trigger: it
-- is one of our own that calls.
CREATE FUNCTION procrastinate_deps.start_settling(by_our_trigger boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    before text := coalesce(current_setting('procrastinate_deps_internal.settling', true), '');
    now_settling text := concat('procrastinate_deps', ' ', pg_trigger_depth());
BEGIN
    IF before <> now_settling AND NOT by_our_trigger AND pg_trigger_depth() > 0 THEN
        PERFORM set_config('procrastinate_deps_internal.interrupted', 'yes', true);
    END IF;
    PERFORM set_config('procrastinate_deps_internal.settling', now_settling, true);
    RETURN before;
END
$$;
