SELECT holder.job_id, holder.pid, holder.application_name, holder.state, holder.xact_start
FROM procrastinate_deps.job_holders($1::bigint[]) AS holder
