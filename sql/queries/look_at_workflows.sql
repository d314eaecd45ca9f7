SELECT workflow.id, workflow.status
FROM procrastinate_deps.workflow_states AS workflow
WHERE workflow.id = ANY ($1::bigint[])
