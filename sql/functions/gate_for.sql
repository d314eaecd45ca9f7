-- The gate of a job that has just become todo. Whether its lock is free is found out when it is fetched.
CREATE FUNCTION procrastinate_deps.gate_for(scheduled_at timestamptz) RETURNS procrastinate_deps.job_gate
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN scheduled_at > now() THEN 'scheduled' END::procrastinate_deps.job_gate $$;
