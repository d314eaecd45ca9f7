-- of the values and results of all other queries: asyncpg asks for what it has to know of each when it first meets it
SELECT '{}'::bigint[], '{}'::integer[], '{}'::double precision[], '{}'::text[], '{}'::timestamptz[]
