-- The edges between these jobs.
SELECT edge.parent_id, edge.child_id
FROM procrastinate_deps.job_dependencies AS edge
WHERE edge.child_id = ANY($1::bigint[]) AND edge.parent_id = ANY($1)
ORDER BY edge.child_id, edge.parent_id
