-- Why a job's rule is not met: the rule and the parents that decided it, at most five by name.
CREATE FUNCTION procrastinate_deps.describe_unmet(child bigint, rule procrastinate_deps.run_when) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (WITH deciding AS (
        SELECT parent.id, parent.status, row_number() OVER (ORDER BY parent.id) AS nth, count(*) OVER () AS total
        FROM procrastinate_deps.deciding_parents(child, rule) AS parent
    )
    SELECT rule || ': ' || string_agg('parent ' || id || ' ' || status, ', ' ORDER BY id)
        || CASE WHEN max(total) > 5 THEN ' and ' || max(total) - 5 || ' more' ELSE '' END
    FROM deciding
    WHERE nth <= 5);
END
$$;
