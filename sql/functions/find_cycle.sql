-- The cycle that would close if child came to depend on parent: child, ..., parent, child; NULL when there is none.
-- Reached by a union over edges, never over paths: a layered graph has exponentially many.
CREATE FUNCTION procrastinate_deps.find_cycle(child bigint, parents bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    cycle bigint[];
    step bigint;
BEGIN
    IF child = ANY (parents) THEN
        RETURN ARRAY[child, child];
    END IF;
    WITH RECURSIVE below (id) AS (
        SELECT child
        UNION
        SELECT d.child_id
        FROM below
        JOIN procrastinate_deps.job_dependencies AS d ON d.parent_id = below.id
    )
    SELECT min(id) INTO step FROM below WHERE id = ANY (parents);
    IF step IS NULL THEN
        RETURN NULL;
    END IF;
    cycle := ARRAY[step, child];
    WHILE step <> child LOOP
        WITH RECURSIVE below (id, via) AS (
            SELECT child, NULL::bigint
            UNION
            SELECT d.child_id, d.parent_id
            FROM below
            JOIN procrastinate_deps.job_dependencies AS d ON d.parent_id = below.id
        )
        SELECT min(via) INTO step FROM below WHERE id = step;
        cycle := step || cycle;
    END LOOP;
    RETURN cycle;
END
$$;
