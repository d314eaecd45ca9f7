CREATE FUNCTION procrastinate_deps.refuse_cycle(child bigint, cycle bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'job % would wait for itself: %', child, CASE
        WHEN cardinality(cycle) <= 12 THEN array_to_string(cycle, ' -> ')
        ELSE concat_ws(' -> ', array_to_string(cycle[:6], ' -> '),
            format('... %s more ...', cardinality(cycle) - 11), array_to_string(cycle[cardinality(cycle) - 4:], ' -> '))
    END
    USING ERRCODE = 'PD003', DETAIL = jsonb_build_object('cycle', to_jsonb(cycle));
END
$$;
