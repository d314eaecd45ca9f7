SELECT doomed.job_id, doomed.kind, doomed.because, doomed.root, doomed.root_status
FROM procrastinate_deps.doomed_in_workflow($1::bigint) AS doomed
