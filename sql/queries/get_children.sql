SELECT child.id, child.status::text
FROM procrastinate_deps.job_dependencies AS edge
JOIN procrastinate_deps.jobs AS child ON child.id = edge.child_id
WHERE edge.parent_id = $1::bigint AND ($2::bigint IS NULL OR edge.child_id > $2)
ORDER BY edge.child_id
LIMIT $3::bigint
