SELECT queue FROM procrastinate_deps.paused_queues ORDER BY queue
