-- Seconds that successful runs of these tasks took on average, in the last days.
SELECT
    stat.task_name,
    sum(stat.run_sum) / sum(stat.runs)
FROM procrastinate_deps.job_stats AS stat
WHERE
    stat.minute >= now() - make_interval(secs => $2::float8)
    AND stat.task_name = ANY ($1::text[])
    AND stat.status = 'succeeded'
GROUP BY stat.task_name
