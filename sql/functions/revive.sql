-- The consequences of putting terminal jobs back to todo. ids: were terminal, are todo now, held FOR UPDATE.
-- Dependents that have not been claimed since they were deferred or revived go back to blocked, through all levels;
-- then the revived decide about themselves: one may hang from another through jobs that were just reset. Without
-- reset_dependents all stay as they are: those that are blocked then wait for the revived as well, and are recounted.
CREATE FUNCTION procrastinate_deps.revive(
    ids bigint[], reset_dependents boolean DEFAULT true, ignore_dependencies boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    wave bigint[] := ids;
    members bigint[];
    blocked bigint[] := '{}';
    unmet bigint;
    first_wave boolean := true;
BEGIN
    LOOP
        -- Who may be reset: guessed through all levels at first, to lock by id in one pass; then read again wave by wave.
        members := procrastinate_deps.hold_revival(wave, ids, first_wave, reset_dependents);
        first_wave := false;

        members := ARRAY(
            SELECT DISTINCT c.id
            FROM unnest(wave) AS w (id)
            CROSS JOIN LATERAL (
                SELECT e.child_id FROM procrastinate_deps.job_dependencies AS e WHERE e.parent_id = w.id OFFSET 0
            ) AS d
            CROSS JOIN LATERAL (
                SELECT x.id, x.status, x AS job FROM procrastinate_deps.jobs AS x WHERE x.id = d.child_id OFFSET 0
            ) AS c
            -- IS TRUE, IS NOT TRUE: hashed once, where an array would be searched for each job
            WHERE (c.id IN (SELECT unnest(members))) IS TRUE AND (c.id IN (SELECT unnest(ids))) IS NOT TRUE
                AND CASE WHEN reset_dependents THEN procrastinate_deps.resettable(c.job) ELSE c.status = 'blocked' END);
        PERFORM procrastinate_deps.recount_parents(
            ARRAY(SELECT job_id FROM procrastinate_deps.job_blocks WHERE job_id = ANY (members)));
        wave := ARRAY(SELECT id FROM procrastinate_deps.jobs WHERE id = ANY (members) AND status = 'cancelled');
        members := ARRAY(SELECT id FROM procrastinate_deps.jobs WHERE id = ANY (members) AND status <> 'blocked');
        EXIT WHEN cardinality(members) = 0;
        PERFORM procrastinate_deps.block_jobs(members);
        blocked := blocked || members;
        EXIT WHEN cardinality(wave) = 0;
    END LOOP;

    IF NOT ignore_dependencies THEN
        SELECT
            array_agg(c.job_id) FILTER (WHERE c.live > 0),
            min(c.job_id) FILTER (WHERE c.live = 0 AND NOT procrastinate_deps.rule_met(
                j.run_when, c.succeeded, c.failed, c.cancelled, c.not_needed))
        INTO members, unmet
        FROM procrastinate_deps.count_parents(ids) AS c
        CROSS JOIN LATERAL (SELECT x.run_when FROM procrastinate_deps.jobs AS x WHERE x.id = c.job_id OFFSET 0) AS j;
        IF unmet IS NOT NULL THEN
            PERFORM procrastinate_deps.refuse_unmet(unmet);
        END IF;
        IF members IS NOT NULL THEN
            PERFORM procrastinate_deps.block_jobs(members);
            blocked := blocked || members;
        END IF;
    END IF;

    IF cardinality(blocked) > 0 THEN
        PERFORM procrastinate_deps.hand_over_locks(ARRAY(
            SELECT l.lock
            FROM procrastinate_deps.jobs AS j
            JOIN procrastinate_deps.locks AS l ON l.lock = j.lock AND l.job_id = j.id
            WHERE j.id = ANY (blocked)));
    END IF;
    PERFORM procrastinate_deps.notify_queues(
        ARRAY(SELECT queue FROM procrastinate_deps.jobs WHERE id = ANY (ids) AND status = 'todo'));
END
$$;
