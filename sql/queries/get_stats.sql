-- By steps of time, and by queue, task and status where asked for. Where not, the name is '' in the meantime: NULL can't
-- be joined by hash.
WITH picked AS MATERIALIZED (
    SELECT
        date_bin(make_interval(secs => $5::float8), stat.minute, 'epoch') AS start,
        CASE WHEN $6::boolean THEN stat.queue ELSE '' END AS queue,
        CASE WHEN $7::boolean THEN stat.task_name ELSE '' END AS task_name,
        CASE WHEN $8::boolean THEN stat.status::text ELSE '' END AS status,
        stat.runs,
        stat.run_sum,
        stat.run_min,
        stat.run_max,
        stat.run_histogram,
        stat.wait_sum,
        stat.wait_min,
        stat.wait_max,
        stat.wait_histogram
    FROM procrastinate_deps.job_stats AS stat
    WHERE
        stat.minute >= date_bin(make_interval(secs => $5::float8), $1::timestamptz, 'epoch')
        AND ($2::timestamptz IS NULL OR stat.minute < $2)
        AND ($3::text IS NULL OR stat.queue = $3)
        AND ($4::text IS NULL OR stat.task_name = $4)
),
totals AS (
    SELECT
        start,
        queue,
        task_name,
        status,
        sum(runs)::bigint AS runs,
        sum(run_sum) AS run_sum,
        min(run_min) AS run_min,
        max(run_max) AS run_max,
        sum(wait_sum) AS wait_sum,
        min(wait_min) AS wait_min,
        max(wait_max) AS wait_max
    FROM picked
    GROUP BY start, queue, task_name, status
),
buckets AS (
    SELECT
        picked.start,
        picked.queue,
        picked.task_name,
        picked.status,
        bucket.n,
        coalesce(sum(bucket.run), 0)::bigint AS run,
        coalesce(sum(bucket.wait), 0)::bigint AS wait
    FROM picked
    CROSS JOIN LATERAL unnest(
        picked.run_histogram, picked.wait_histogram
    ) WITH ORDINALITY AS bucket (run, wait, n)
    WHERE $9::boolean
    GROUP BY picked.start, picked.queue, picked.task_name, picked.status, bucket.n
),
histograms AS (
    SELECT
        start,
        queue,
        task_name,
        status,
        array_agg(run ORDER BY n) AS run,
        array_agg(wait ORDER BY n) AS wait
    FROM buckets
    GROUP BY start, queue, task_name, status
)
SELECT
    total.start,
    CASE WHEN $6::boolean THEN total.queue END,
    CASE WHEN $7::boolean THEN total.task_name END,
    CASE WHEN $8::boolean THEN total.status END,
    total.runs,
    total.run_sum,
    total.run_min,
    total.run_max,
    histogram.run,
    total.wait_sum,
    total.wait_min,
    total.wait_max,
    histogram.wait
FROM totals AS total
LEFT JOIN histograms AS histogram USING (start, queue, task_name, status)
ORDER BY total.start, total.queue, total.task_name, total.status
