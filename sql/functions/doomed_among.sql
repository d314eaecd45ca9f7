-- Which of these jobs are bound to be cancelled by their rule, unless someone interferes: no way in which the live parents
-- may end can make the rule met. A parent that is bound to be cancelled counts as ended so: a fixed point, through all
-- levels whose jobs are among ids. Ancestors left out count as undecided: less is known then, nothing is wrong.
-- because: a parent that decides it, ended (then it is the root) or doomed itself. root: the ended job that began it.
-- Each job and each edge is looked at once, in arrays (reading and writing an element takes constant time): as one
-- recursive query it can't be written, since any_succeeded has to count its doomed parents; as waves of queries a graph of
-- 1,000 levels took a second for each 1,000 jobs.
CREATE FUNCTION procrastinate_deps.doomed_among(ids bigint[])
RETURNS TABLE (
    job_id bigint, kind procrastinate_deps.cancel_kind, because bigint, root bigint,
    root_status procrastinate_deps.job_status
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    -- of the blocked jobs, by their number
    jobs bigint[];
    rules procrastinate_deps.run_when[];
    live integer[];
    succeeded integer[];
    failed integer[];
    cancelled integer[];
    not_needed integer[];
    kinds procrastinate_deps.cancel_kind[];
    causes bigint[];
    roots bigint[];
    root_statuses procrastinate_deps.job_status[];
    -- the numbers of the doomed, in the order in which they were found to be
    doomed integer[] := '{}';
    -- children[first_child[n]], ...: the numbers of the blocked children of job n
    children integer[];
    parents integer[];
    first_child integer[];
    n integer;
    child integer;
    before integer;
    looked_at integer := 0;
    found integer := 0;
    r record;
BEGIN
    SELECT
        array_agg(b.job_id), array_agg(b.run_when), array_agg(b.live), array_agg(b.succeeded), array_agg(b.failed),
        array_agg(b.cancelled), array_agg(b.not_needed), array_agg(NULL::procrastinate_deps.cancel_kind),
        array_agg(NULL::bigint), array_agg(NULL::bigint), array_agg(NULL::procrastinate_deps.job_status),
        array_agg(0), array_agg(b.nth) FILTER (
            WHERE NOT procrastinate_deps.rule_outcome(
                b.run_when, b.live, b.succeeded, b.failed, b.cancelled, b.not_needed))
    INTO
        jobs, rules, live, succeeded, failed, cancelled, not_needed, kinds, causes, roots, root_statuses, first_child,
        doomed
    FROM (
        SELECT *, row_number() OVER (ORDER BY x.job_id)::integer AS nth
        FROM procrastinate_deps.job_blocks AS x
        WHERE x.job_id = ANY (ids)
        ORDER BY x.job_id
    ) AS b;
    IF doomed IS NULL THEN
        RETURN;
    END IF;
    found := cardinality(doomed);
    FOREACH n IN ARRAY doomed LOOP
        kinds[n] := procrastinate_deps.unmet_kind(rules[n]);
    END LOOP;
    FOR r IN
        SELECT DISTINCT ON (u.nth) u.nth, parent.id, parent.status
        FROM unnest(doomed) AS u (nth)
        CROSS JOIN LATERAL procrastinate_deps.deciding_parents(jobs[u.nth], rules[u.nth]) AS parent
        ORDER BY u.nth, parent.id
    LOOP
        causes[r.nth] := r.id;
        roots[r.nth] := r.id;
        root_statuses[r.nth] := r.status;
    END LOOP;

    SELECT e.parents, e.children INTO parents, children FROM procrastinate_deps.edges_among(jobs) AS e;
    FOR i IN REVERSE cardinality(parents)..1 LOOP
        first_child[parents[i]] := i;
    END LOOP;

    WHILE looked_at < found LOOP
        looked_at := looked_at + 1;
        n := doomed[looked_at];
        IF first_child[n] > 0 THEN
            FOR i IN first_child[n]..cardinality(children) LOOP
                EXIT WHEN parents[i] <> n;
                child := children[i];
                CONTINUE WHEN kinds[child] IS NOT NULL;
                -- by way of a variable: an array that is read where it is assigned to is copied whole
                before := live[child];
                live[child] := before - 1;
                IF kinds[n] = 'not_needed' THEN
                    before := not_needed[child];
                    not_needed[child] := before + 1;
                ELSE
                    before := failed[child];
                    failed[child] := before + 1;
                END IF;
                IF NOT procrastinate_deps.rule_outcome(
                    rules[child], live[child], succeeded[child], failed[child], cancelled[child], not_needed[child])
                THEN
                    kinds[child] := procrastinate_deps.unmet_kind(rules[child]);
                    causes[child] := jobs[n];
                    root := roots[n];
                    roots[child] := root;
                    root_status := root_statuses[n];
                    root_statuses[child] := root_status;
                    found := found + 1;
                    doomed[found] := child;
                END IF;
            END LOOP;
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT u.job_id, u.kind, u.because, u.root, u.root_status
    FROM unnest(jobs, kinds, causes, roots, root_statuses) AS u (job_id, kind, because, root, root_status)
    WHERE u.kind IS NOT NULL
    ORDER BY u.job_id;
END
$$;
