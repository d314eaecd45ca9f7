-- Why a job stands where it stands, and what is bound to happen to it, as one JSON object; NULL: there is no such job.
-- All is read in the snapshot of the statement that calls this. Bounded: it looks at max_looked_at unfinished ancestors at
-- most (looked_at_all says whether that was enough), and shows the nearest max_shown of them.
--   job ........... the row, but for arguments and result
--   obstacles ..... what job_obstacles says of it
--   ancestors ..... unfinished ones, nearest level first, each with what it is bound to be cancelled as
--   roots ......... the first 20 of those that wait for no other job: with their obstacles they are the real reasons
--   bound ......... that its rule will cancel it, and why: deciders are those parents that speak against it, chain leads
--                   from the first of them to the root, the ended job that began it
--   deciders ...... of a job that its rule has cancelled, the parents that decided
CREATE FUNCTION procrastinate_deps.explain_job(
    job_id bigint, max_shown integer DEFAULT 200, max_looked_at integer DEFAULT 20000
) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    job procrastinate_deps.jobs;
    about jsonb;
    waited_for bigint[];
    roots bigint[];
    root bigint;
    root_count integer;
    wave bigint[];
    levels integer[] := '{}';
    shown bigint[] := '{}';
    level integer := 0;
    doomed bigint[];
    kinds procrastinate_deps.cancel_kind[];
    causes bigint[];
    bound_roots bigint[];
    root_statuses procrastinate_deps.job_status[];
    nth integer;
    at_job bigint;
    chain jsonb := '[]';
    bound jsonb;
BEGIN
    SELECT * INTO job FROM procrastinate_deps.jobs AS j WHERE j.id = explain_job.job_id;
    IF job.id IS NULL THEN
        RETURN NULL;
    END IF;
    about := jsonb_build_object(
        'at', statement_timestamp(),
        'job', procrastinate_deps.job_in_brief(job) || jsonb_build_object(
            'run_when', job.run_when, 'priority', job.priority, 'lock', job.lock, 'attempts', job.attempts,
            'rescues', job.rescues, 'created_at', job.created_at, 'scheduled_at', job.scheduled_at,
            'started_at', job.started_at, 'finished_at', job.finished_at, 'cancel_kind', job.cancel_kind,
            'cancel_reason', job.cancel_reason, 'ignores_dependencies', job.ignores_dependencies,
            -- an error ends with what it was, after its traceback
            'error', right(job.error, 2000)));
    IF NOT procrastinate_deps.is_live(job.status) THEN
        IF job.cancel_kind <> 'manual' THEN
            about := about || jsonb_build_object('deciders', (
                SELECT jsonb_agg(jsonb_build_object('id', d.id, 'status', d.status) ORDER BY d.id)
                FROM (
                    SELECT p.id, p.status FROM procrastinate_deps.deciding_parents(job.id, job.run_when) AS p
                    ORDER BY p.id LIMIT 20
                ) AS d));
        END IF;
        RETURN about;
    END IF;

    about := about || jsonb_build_object(
        'obstacles', (SELECT o.obstacles FROM procrastinate_deps.job_obstacles(ARRAY[job.id]) AS o));
    IF job.status <> 'blocked' THEN
        RETURN about;
    END IF;

    -- one more than the job itself and all that may be looked at
    waited_for := procrastinate_deps.unfinished_ancestors(ARRAY[job.id], max_looked_at + 2);
    SELECT array_agg(d.job_id), array_agg(d.kind), array_agg(d.because), array_agg(d.root), array_agg(d.root_status)
    INTO doomed, kinds, causes, bound_roots, root_statuses
    FROM procrastinate_deps.doomed_among(waited_for) AS d;

    -- the nearest ones, level by level
    wave := ARRAY[job.id];
    WHILE cardinality(wave) > 0 AND cardinality(shown) < max_shown LOOP
        level := level + 1;
        wave := ARRAY(
            SELECT DISTINCT p.id
            FROM unnest(wave) AS w (id)
            -- OFFSET 0: look-ups, see count_ends
            CROSS JOIN LATERAL (
                SELECT x.id FROM procrastinate_deps.jobs AS x
                WHERE x.id = w.id AND (x.status = 'blocked') IS TRUE OFFSET 0
            ) AS c
            CROSS JOIN LATERAL (
                SELECT e.parent_id FROM procrastinate_deps.job_dependencies AS e WHERE e.child_id = c.id OFFSET 0
            ) AS d
            CROSS JOIN LATERAL (
                SELECT x.id, x.status FROM procrastinate_deps.jobs AS x WHERE x.id = d.parent_id OFFSET 0
            ) AS p
            WHERE (p.status IN ('blocked', 'todo', 'doing')) IS TRUE AND p.id NOT IN (SELECT unnest(shown))
            ORDER BY p.id
            LIMIT max_shown - cardinality(shown));
        shown := shown || wave;
        levels := levels || array_fill(level, ARRAY[cardinality(wave)]);
    END LOOP;

    SELECT count(*), (array_agg(j.id ORDER BY j.id))[1:20]
    INTO root_count, roots
    FROM procrastinate_deps.jobs AS j
    WHERE j.id = ANY (waited_for) AND (j.status IN ('todo', 'doing')) IS TRUE;
    IF root_count = 0 AND cardinality(waited_for) > max_looked_at + 1 THEN
        -- they are further away than was looked: straight up to one of them
        root := waited_for[cardinality(waited_for)];
        FOR i IN 1..max_looked_at LOOP
            SELECT p.id, (p.status IN ('todo', 'doing'))::integer INTO root, root_count
            FROM procrastinate_deps.job_dependencies AS d
            JOIN procrastinate_deps.jobs AS p ON p.id = d.parent_id
            WHERE d.child_id = root AND (p.status IN ('blocked', 'todo', 'doing')) IS TRUE
            ORDER BY d.parent_id
            LIMIT 1;
            EXIT WHEN root IS NULL OR root_count = 1;
        END LOOP;
        roots := ARRAY(SELECT root WHERE root_count = 1);
    END IF;

    nth := array_position(doomed, job.id);
    IF nth IS NOT NULL THEN
        at_job := causes[nth];
        FOR i IN 1..20 LOOP
            nth := array_position(doomed, at_job);
            EXIT WHEN nth IS NULL;
            chain := chain || jsonb_build_object('id', at_job, 'will_be', kinds[nth]);
            at_job := causes[nth];
        END LOOP;
        nth := array_position(doomed, job.id);
        bound := jsonb_build_object(
            'kind', kinds[nth], 'root', bound_roots[nth], 'root_status', root_statuses[nth], 'chain', chain,
            'deciders', (
                SELECT jsonb_agg(to_jsonb(x) ORDER BY x.id)
                FROM (
                    SELECT p.id, p.status::text AS status, NULL::text AS will_be
                    FROM procrastinate_deps.deciding_parents(job.id, job.run_when) AS p
                    UNION ALL
                    SELECT d.id, 'blocked', d.kind::text
                    FROM unnest(doomed, kinds) AS d (id, kind)
                    JOIN procrastinate_deps.job_dependencies AS e ON e.parent_id = d.id AND e.child_id = job.id
                    WHERE CASE job.run_when
                        WHEN 'none_failed' THEN d.kind = 'upstream'
                        WHEN 'all_failed' THEN d.kind = 'not_needed'
                        ELSE true
                    END
                    ORDER BY 1
                    LIMIT 20
                ) AS x));
    END IF;

    RETURN about || jsonb_build_object(
        'bound', bound,
        'looked_at_all', cardinality(waited_for) <= max_looked_at + 1,
        'ancestor_count', least(cardinality(waited_for) - 1, max_looked_at),
        'ancestors', (
            SELECT coalesce(jsonb_agg(
                procrastinate_deps.job_in_brief(j)
                || jsonb_build_object('level', u.level, 'will_be', kinds[array_position(doomed, j.id)])
                ORDER BY u.level, j.id), '[]')
            FROM unnest(shown, levels) AS u (id, level)
            JOIN procrastinate_deps.jobs AS j ON j.id = u.id),
        'root_count', greatest(root_count, coalesce(cardinality(roots), 0)),
        'roots', (
            SELECT coalesce(jsonb_agg(
                procrastinate_deps.job_in_brief(j) || jsonb_build_object('obstacles', o.obstacles) ORDER BY j.id), '[]')
            FROM procrastinate_deps.job_obstacles(roots) AS o
            JOIN procrastinate_deps.jobs AS j ON j.id = o.job_id));
END
$$;
