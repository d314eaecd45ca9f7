SELECT to_regclass('procrastinate_deps.jobs') IS NOT NULL
