SELECT procrastinate_deps.next_due($1::text[])
