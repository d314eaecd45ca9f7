-- The jobs around one: its parents' side and its children's side, so many steps far, so many of each, nearest first.
WITH RECURSIVE up AS (
    SELECT $1::bigint AS id, 0 AS steps
    UNION
    SELECT parent.parent_id, up.steps + 1
    FROM up
    CROSS JOIN LATERAL (
        SELECT edge.parent_id
        FROM procrastinate_deps.job_dependencies AS edge
        WHERE edge.child_id = up.id
        ORDER BY edge.parent_id
        LIMIT $3::bigint
    ) AS parent
    WHERE up.steps < $2::bigint
),
down AS (
    SELECT $1 AS id, 0 AS steps
    UNION
    SELECT child.child_id, down.steps + 1
    FROM down
    CROSS JOIN LATERAL (
        SELECT edge.child_id
        FROM procrastinate_deps.job_dependencies AS edge
        WHERE edge.parent_id = down.id
        ORDER BY edge.child_id
        LIMIT $3
    ) AS child
    WHERE down.steps < $2
)
SELECT near.id
FROM (SELECT id, steps FROM up UNION ALL SELECT id, steps FROM down) AS near
GROUP BY near.id
ORDER BY min(near.steps), near.id
LIMIT $4::bigint
