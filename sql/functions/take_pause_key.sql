-- Not waited for long: whoever asks to share the key meanwhile would have to stand behind us.
CREATE FUNCTION procrastinate_deps.take_pause_key() RETURNS void
LANGUAGE plpgsql SET lock_timeout = '1s'
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(procrastinate_deps.pause_key());
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'queues can not be paused or resumed right now: a transaction that hands on the lock of a job is open'
    USING ERRCODE = '55P03', HINT = 'Try again, or end that transaction: see pg_locks where locktype = ''advisory''.';
END
$$;
