SELECT parent.id, parent.status::text
FROM procrastinate_deps.job_dependencies AS edge
JOIN procrastinate_deps.jobs AS parent ON parent.id = edge.parent_id
WHERE edge.child_id = $1::bigint AND ($2::bigint IS NULL OR edge.parent_id > $2)
ORDER BY edge.parent_id
LIMIT $3::bigint
