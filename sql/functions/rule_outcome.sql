-- What a rule will come to while some parents are live: true or false when no way in which they may end can change it,
-- else NULL. A live parent can always succeed, and always fail or be cancelled by hand.
CREATE FUNCTION procrastinate_deps.rule_outcome(
    rule procrastinate_deps.run_when, live integer, succeeded integer, failed integer, cancelled integer,
    not_needed integer
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN live = 0 THEN procrastinate_deps.rule_met(rule, succeeded, failed, cancelled, not_needed)
        WHEN rule = 'all_finished' THEN true
        WHEN rule = 'all_succeeded' AND failed + cancelled + not_needed > 0 THEN false
        WHEN rule = 'any_succeeded' AND succeeded > 0 THEN true
        WHEN rule = 'any_failed' AND failed + cancelled > 0 THEN true
        WHEN rule = 'all_failed' AND succeeded + not_needed > 0 THEN false
        WHEN rule = 'none_failed' AND failed > 0 THEN false
    END
$$;
