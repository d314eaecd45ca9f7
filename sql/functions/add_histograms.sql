-- Two histograms in one, element by element; each has its trailing zeros left out.
CREATE FUNCTION procrastinate_deps.add_histograms(a integer[], b integer[]) RETURNS integer[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY(
        SELECT coalesce(u.a, 0) + coalesce(u.b, 0) FROM unnest(a, b) WITH ORDINALITY AS u (a, b, n) ORDER BY u.n)
$$;
