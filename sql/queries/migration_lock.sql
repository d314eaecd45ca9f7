-- Two migrations of one schema wait for each other; the lock goes with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('procrastinate_deps', 3))
