"""The parts of `procrastinate_deps.embedded`; standard library only: the keeper process imports nothing else."""
