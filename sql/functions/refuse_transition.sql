CREATE FUNCTION procrastinate_deps.refuse_transition(message text, hint text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '%', message USING ERRCODE = 'PD005', HINT = hint;
END
$$;
