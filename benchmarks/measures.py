"""Each load, measured once for one peer on a fresh database."""

from __future__ import annotations

import math
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from benchmarks import backlog
from benchmarks.adapters.shapes import graph
from benchmarks.bench import FETCHED, Bench
from benchmarks.crew import Crew, Installed, PeerError
from benchmarks.peers import OURS
from benchmarks.server import Connection, Watch, pgbench

Figures: TypeAlias = dict[str, float]

# From the last body until the database must show the last end.
LAST_END_TIMEOUT_S = 15
PICK_UP_TIMEOUT_S = 30
WARM_UP_JOBS = 10
WARM_UP_FETCHES = 5
CEILING_SCRIPT = Path(__file__).parent / "ceiling.sql"
CEILING_CLIENTS = (1, 8)


@dataclass(frozen=True, slots=True)
class Measured:
    """
    What one run gave.

    capped: it was stopped before all its jobs were done, and the rates are of those that were.
    """

    figures: Figures
    capped: bool = False


# -- deferring


def defer(bench: Bench, installed: Installed, *, command: str) -> Measured:
    """One client that defers jobs, one at a time ("defer") or many ("batch"), and nobody who works on them."""
    count = bench.sizes.deferred if command == "defer" else bench.sizes.batch
    with bench.fresh(installed, "empty") as database:
        before = bench.server.wal_bytes()
        span = installed.call(bench.server.dsn(database), command, count)
        logged = bench.server.wal_bytes() - before
    return Measured({"jobs_per_s": count / span.seconds, "wal_bytes_per_job": logged / count})


# -- draining


def drain(bench: Bench, installed: Installed, *, kind: str = "due", processes: int = 1) -> Measured:
    """
    Workers that start on a full queue.

    The time is from the first body to the moment when the database shows no due job that has not ended.
    """
    count = bench.sizes.drained
    with bench.fresh(installed, kind) as database:
        before = bench.server.wal_bytes()
        with (
            bench.server.watching(database, installed.peer.unfinished) as watch,
            Crew(installed, bench.server.dsn(database), processes) as crew,
        ):
            used = crew.cpu_s()
            crew.started()
            done = crew.wait(count, bench.sizes.drain_cap_s)
            times = crew.times()
            ended = _last_end(watch, times) if done else times[-1]
            ran, used_now = len(times), crew.cpu_s()
        figures = {
            "jobs_per_s": _rate(ran, ended - times[0], whole=done),
            "wal_bytes_per_job": (bench.server.wal_bytes() - before) / ran,
        }
        if used is not None and used_now is not None:
            figures["cpu_ms_per_job"] = 1000 * (used_now - used) / ran
        if done and ran > count:
            figures["run_again"] = ran - count
    return Measured(figures, capped=not done)


def drain_behind(bench: Bench, installed: Installed, *, kind: str) -> Measured:
    """
    The same with a backlog of this kind, and without: one right after the other, in alternating order.

    Ours twice, there and back, and the means: the noise of one pair is larger than what its ratio may differ from 1.
    """
    order = ["due", kind] if bench.turn % 2 else [kind, "due"]
    if installed.peer.name == OURS:
        order += order[::-1]
    runs = [(each, drain(bench, installed, kind=each)) for each in order]
    behind, without = (
        statistics.fmean(run.figures["jobs_per_s"] for each, run in runs if each == wanted) for wanted in (kind, "due")
    )
    figures = {"jobs_per_s": behind, "jobs_per_s_without": without, "ratio": behind / without}
    return Measured(figures, capped=any(run.capped for _, run in runs))


def _last_end(watch: Watch, times: Sequence[float]) -> float:
    ended = watch.when_false(LAST_END_TIMEOUT_S)
    if ended is None:
        raise PeerError(f"the database shows jobs that have not ended, {LAST_END_TIMEOUT_S} s after the last body")
    return max(ended, times[-1])


def _rate(count: int, seconds: float, *, whole: bool) -> float:
    """whole: the time lasts to the end of the last job; otherwise to its start, and that job is not counted."""
    if count < 2:
        raise PeerError(f"{count} job(s) had run when the time was up")
    return (count if whole else count - 1) / seconds


# -- one job at a time, on an idle worker


def pick_up(bench: Bench, installed: Installed) -> Measured:
    """From before a job is deferred to the first line of its body, on a worker with nothing else to do."""
    sizes = bench.sizes
    with bench.fresh(installed, "empty") as database:
        dsn = bench.server.dsn(database)
        with Crew(installed, dsn) as crew:
            _wake(crew, installed, dsn)
            installed.call(dsn, "pick-up", sizes.picked_up, sizes.pick_up_gap_s, WARM_UP_JOBS)
            if not crew.wait(WARM_UP_JOBS + sizes.picked_up, PICK_UP_TIMEOUT_S):
                raise PeerError(f"{crew.count} of {WARM_UP_JOBS + sizes.picked_up} jobs had run when the time was up")
            ms = sorted(1000 * delay for delay in crew.delays())
    return Measured({f"p{percent}_ms": percentile(ms, percent) for percent in (50, 95, 99)})


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank, of values in order."""
    return values[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def _wake(crew: Crew, installed: Installed, dsn: str) -> None:
    """Bring the worker to where it waits for jobs."""
    installed.call(dsn, "defer", 1)
    crew.started()
    time.sleep(installed.peer.settle_s)
    crew.skip()


# -- graphs


def run_graph(bench: Bench, installed: Installed, *, shape: str) -> Measured:
    """
    A graph that is deferred while a worker waits. Its rate is from the first body to the moment when the database shows
    nothing left; total_s is from before it was deferred.
    """
    size, width = _dimensions(bench, installed, shape)
    count = len(graph(shape, size, width))
    with bench.fresh(installed, "empty") as database:
        dsn = bench.server.dsn(database)
        with bench.server.watching(database, installed.peer.unfinished) as watch, Crew(installed, dsn) as crew:
            _wake(crew, installed, dsn)
            if installed.peer.dependencies:
                sent = installed.call(dsn, "graph", shape, size, width)
            else:
                sent = installed.call(dsn, "chain", size)
            done = crew.wait(count, bench.sizes.graph_cap_s)
            times = crew.times()
            if len(times) < 2:
                raise PeerError(f"{len(times)} of {count} jobs had run after {bench.sizes.graph_cap_s:g} s")
            ended = _last_end(watch, times) if done else times[-1]
    figures = {"jobs": count, "jobs_per_s": _rate(len(times), ended - times[0], whole=done), "submit_s": sent.seconds}
    if done:
        figures["total_s"] = ended - sent.began
    else:
        figures["done"] = len(times)
    if shape == "chain":
        steps = [1000 * (after - before) for before, after in pairwise(times)]
        figures["edge_ms"] = statistics.fmean(steps)
        figures["edge_p99_ms"] = percentile(sorted(steps), 99)
    return Measured(figures, capped=not done)


def _dimensions(bench: Bench, installed: Installed, shape: str) -> tuple[int, int]:
    sizes = bench.sizes
    if shape == "chain":
        return sizes.chain, 1
    if shape == "layered":
        return sizes.layers, sizes.layer
    return (sizes.chancy_fan if installed.peer.name == "chancy" else sizes.fan), 1


def critical_path(bench: Bench, installed: Installed) -> Measured:
    """
    A graph of unequal chains, there before the worker starts: from the first body to the end of the last job, with
    priorities by the critical path and without; in alternating order, twice, and the means.
    """
    order = ["as-added", "critical-path"] if bench.turn % 2 else ["critical-path", "as-added"]
    runs = [(by, _makespan_s(bench, installed, by)) for by in order + order[::-1]]
    with_it, without = (
        statistics.fmean(seconds for by, seconds in runs if by == wanted) for wanted in ("critical-path", "as-added")
    )
    sizes = bench.sizes
    count = len(graph("unequal", sizes.long_chain, sizes.short_chains))
    least = sizes.nap_s * max(sizes.long_chain, count / sizes.naps_at_once)
    return Measured({"s": with_it, "s_without": without, "ratio": with_it / without, "least_s": least, "jobs": count})


def _makespan_s(bench: Bench, installed: Installed, by: str) -> float:
    sizes = bench.sizes
    count = len(graph("unequal", sizes.long_chain, sizes.short_chains))
    with bench.fresh(installed, "empty") as database:
        dsn = bench.server.dsn(database)
        installed.call(dsn, "naps", "unequal", sizes.long_chain, sizes.short_chains, sizes.nap_s, by)
        with (
            bench.server.watching(database, installed.peer.unfinished) as watch,
            Crew(installed, dsn, concurrency=sizes.naps_at_once) as crew,
        ):
            if not crew.wait(count, bench.sizes.graph_cap_s + 4 * count * sizes.nap_s):
                raise PeerError(f"{crew.count} of {count} jobs had run when the time was up")
            times = crew.times()
            return _last_end(watch, times) - times[0]


# -- without a worker: our own SQL


def fetch(bench: Bench, installed: Installed) -> Measured:
    """A fetch of ten jobs behind blocked and finished ones, and without them: two databases, alternating."""
    with (
        bench.fresh(installed, "fetch", "run") as alone_name,
        bench.fresh(installed, "fetch-behind", "run_behind") as behind_name,
        bench.server.connection(alone_name) as alone,
        bench.server.connection(behind_name) as behind,
    ):
        for connection in (alone, behind):
            connection.execute(backlog.WORKER)
        times = [(_fetch_ms(alone), _fetch_ms(behind)) for _ in range(bench.sizes.fetches)][WARM_UP_FETCHES:]
    without = statistics.median(ms for ms, _ in times)
    with_it = statistics.median(ms for _, ms in times)
    return Measured({"ms_without": without, "ms": with_it, "ratio": with_it / without})


def _fetch_ms(connection: Connection) -> float:
    before = time.perf_counter()
    rows = connection.execute("SELECT id FROM procrastinate_deps.fetch_jobs('{default}', 1, %s)", [FETCHED]).fetchall()
    ms = 1000 * (time.perf_counter() - before)
    if len(rows) != FETCHED:
        raise RuntimeError(f"fetched {len(rows)} jobs instead of {FETCHED}")
    return ms


def ceiling(bench: Bench, installed: Installed, *, batch: int) -> Measured | None:
    """pgbench on fetch_jobs and finish_jobs, each a transaction: what is left of the time when no worker needs any."""
    program = pgbench(bench.server.cluster)
    if program is None:
        print("  NOT MEASURED: the ceiling; there is no pgbench (Debian has it in postgresql-client-NN)", flush=True)
        return None
    figures: Figures = {}
    for clients in CEILING_CLIENTS:
        with bench.fresh(installed, "ceiling") as database:
            with bench.server.connection(database) as connection:
                row = connection.execute(backlog.WORKER).fetchone()
            calls = max(1, min(bench.sizes.ceiling_calls, bench.sizes.ceiling_jobs // batch) // clients)
            values = {"worker": row[0] if row else 0, "batch": batch}
            seconds = _pgbench_s(program, bench.server.dsn(database), clients, calls, values)
            done = bench.server.value(
                "SELECT count(*) FROM procrastinate_deps.jobs WHERE status = 'succeeded'", database
            )
            figures[f"jobs_per_s_{clients}"] = done / seconds
    return Measured(figures)


def _pgbench_s(program: str, dsn: str, clients: int, calls: int, values: dict[str, int]) -> float:
    """How long the clients took for that many calls each, without connecting."""
    defined = [f"--define={name}={value}" for name, value in values.items()]
    command = [program, "--no-vacuum", "--protocol=prepared", f"--file={CEILING_SCRIPT}", *defined]
    command += [f"--client={clients}", f"--transactions={calls}", dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None:
        raise PeerError(f"pgbench ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return clients * calls / float(found[1])
