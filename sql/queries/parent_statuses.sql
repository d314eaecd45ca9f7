SELECT parent.parent_id, parent.status FROM procrastinate_deps.parent_statuses($1::bigint) AS parent
