-- Does a job run? Asked only when none of its parents is live; a job without parents runs under every rule.
CREATE FUNCTION procrastinate_deps.rule_met(
    rule procrastinate_deps.run_when, succeeded integer, failed integer, cancelled integer, not_needed integer
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE rule
        WHEN 'all_finished' THEN true
        WHEN 'all_succeeded' THEN failed + cancelled + not_needed = 0
        WHEN 'any_succeeded' THEN succeeded > 0
        WHEN 'any_failed' THEN failed + cancelled > 0
        WHEN 'all_failed' THEN succeeded + not_needed = 0
        WHEN 'none_failed' THEN failed = 0
    END OR succeeded + failed + cancelled + not_needed = 0
$$;
