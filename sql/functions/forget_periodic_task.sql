-- Removes what is known of a periodic task that no worker has any more; one that has it makes it known again. False:
-- there is no such task.
CREATE FUNCTION procrastinate_deps.forget_periodic_task(task_name text, periodic_id text DEFAULT '') RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM procrastinate_deps.periodic_tasks AS p
    WHERE p.task_name = forget_periodic_task.task_name AND p.periodic_id = forget_periodic_task.periodic_id;
    RETURN FOUND;
END
$$;
