-- Settling reads what others committed while it waited for a lock. With an older snapshot it would lose a wake-up.
CREATE FUNCTION procrastinate_deps.require_read_committed() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'this needs the isolation level READ COMMITTED, not %',
            upper(current_setting('transaction_isolation'))
        USING ERRCODE = 'PD006', HINT = 'Only new jobs and new workflows can be deferred at every isolation level; not into a '
                'workflow that exists, nor a unique one whose name one has that has just ended.';
    END IF;
END
$$;
