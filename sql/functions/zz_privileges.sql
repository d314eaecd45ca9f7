-- Functions run with their owner's rights, so that roles need no rights on the tables they write; and by default
-- everybody may call a function. Who may is granted role by role: see docs/roles.md.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA procrastinate_deps FROM PUBLIC;
