-- Every status stands in CREATE TYPE: a value added later could not be used in the transaction that adds it.
CREATE TYPE procrastinate_deps.job_status AS ENUM
    ('blocked', 'todo', 'doing', 'succeeded', 'failed', 'cancelled', 'aborted');

-- When a child runs, decided once, when all its parents are terminal.
CREATE TYPE procrastinate_deps.run_when AS ENUM
    ('all_finished', 'all_succeeded', 'any_succeeded', 'any_failed', 'all_failed', 'none_failed');

-- manual: someone asked. upstream: the rule failed because a parent was unsuccessful.
-- not_needed: the rule asked for a failure and there was none.
CREATE TYPE procrastinate_deps.cancel_kind AS ENUM ('manual', 'upstream', 'not_needed');

-- Why a todo job cannot be fetched yet: its time has not come, or it was seen waiting behind the holder of its lock.
CREATE TYPE procrastinate_deps.job_gate AS ENUM ('scheduled', 'lock');
