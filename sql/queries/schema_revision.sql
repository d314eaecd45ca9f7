SELECT version.version_num FROM procrastinate_deps.alembic_version AS version
