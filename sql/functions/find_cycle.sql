-- The cycle that would close if child came to depend on parent: child, ..., parent, child; NULL when there is none.
-- Reached by a union over edges, never over paths: a layered graph has exponentially many.
CREATE FUNCTION procrastinate_deps.find_cycle(child bigint, parents bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    cycle bigint[];
    step bigint;
    reached bigint[];
    via bigint[];
    frontier bigint[];
    frontier_via bigint[];
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
    -- Level by level, each job that is reached and the one of the level before by which it was: so the walk back from the
    -- parent ends at the child, also where the edges that are judged are there already, and close circles of their own.
    -- To search anew at each step of the walk took 35 s for a chain of 3,000.
    reached := ARRAY[child];
    via := ARRAY[child];
    frontier := ARRAY[child];
    LOOP
        SELECT array_agg(x.id), array_agg(x.via) INTO frontier, frontier_via
        FROM (
            SELECT d.child_id AS id, min(d.parent_id) AS via
            FROM procrastinate_deps.job_dependencies AS d
            WHERE d.parent_id = ANY (frontier) AND d.child_id <> ALL (reached)
            GROUP BY d.child_id
        ) AS x;
        reached := reached || frontier;
        via := via || frontier_via;
        EXIT WHEN step = ANY (frontier);
    END LOOP;
    cycle := ARRAY[step, child];
    WHILE step <> child LOOP
        step := via[array_position(reached, step)];
        cycle := step || cycle;
    END LOOP;
    RETURN cycle;
END
$$;
