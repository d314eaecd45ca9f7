WITH RECURSIVE tree (id) AS (
    SELECT $1::bigint
    UNION
    SELECT workflow.id
    FROM tree
    JOIN procrastinate_deps.workflows AS workflow ON workflow.parent_id = tree.id
)
SELECT edge.parent_id, edge.child_id
FROM tree
JOIN procrastinate_deps.jobs AS child ON child.workflow_id = tree.id
JOIN procrastinate_deps.job_dependencies AS edge ON edge.child_id = child.id
JOIN procrastinate_deps.jobs AS parent ON parent.id = edge.parent_id
WHERE
    parent.workflow_id IN (SELECT tree.id FROM tree)
    AND ($2::bigint IS NULL OR (edge.child_id, edge.parent_id) > ($2, $3::bigint))
ORDER BY edge.child_id, edge.parent_id
LIMIT $4::bigint
