SELECT parent.id, parent.node, CASE parent.status WHEN 'succeeded' THEN parent.result::text END
FROM procrastinate_deps.job_dependencies AS edge
JOIN procrastinate_deps.jobs AS parent ON parent.id = edge.parent_id
WHERE edge.child_id = $1::bigint
UNION ALL
SELECT deleted.parent_id, NULL, NULL
FROM procrastinate_deps.deleted_parents AS deleted
WHERE deleted.child_id = $1::bigint
ORDER BY 1
