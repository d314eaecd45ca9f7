-- Workflows whose counts are not folded, at most max_workflows from this id on and before that one (NULL: any). A loose
-- index scan: one probe for each of them, however much there is to fold.
CREATE FUNCTION procrastinate_deps.workflows_with_news(from_id bigint, before_id bigint, max_workflows integer)
RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN ARRAY(
        WITH RECURSIVE with_news (id) AS (
            SELECT (
                SELECT d.workflow_id FROM procrastinate_deps.workflow_deltas AS d
                WHERE d.workflow_id >= coalesce(from_id, -9223372036854775808) ORDER BY d.workflow_id LIMIT 1)
            UNION ALL
            SELECT (
                SELECT d.workflow_id FROM procrastinate_deps.workflow_deltas AS d
                WHERE d.workflow_id > with_news.id ORDER BY d.workflow_id LIMIT 1)
            FROM with_news
            WHERE with_news.id < coalesce(before_id, 9223372036854775807)
        )
        SELECT n.id FROM with_news AS n WHERE n.id < coalesce(before_id, 9223372036854775807) LIMIT max_workflows);
END
$$;
