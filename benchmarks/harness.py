"""Runs the loads: peers take turns within a load, loads within a round, so that a noisy minute hits all of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from benchmarks import environments, machine, server
from benchmarks.bench import Bench
from benchmarks.crew import Installed, PeerError
from benchmarks.environments import REPOSITORY, NotInstalledError
from benchmarks.loads import Load
from benchmarks.peers import Peer
from benchmarks.results import About, Results, Run
from benchmarks.sizes import Sizes

# What shows the results: they stay the same when it changes.
_SHOWING = {"bars.py", "page.py", "__main__.py"}


class ChangedError(Exception):
    """The checkout is not what it was when the run began."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    peers: Sequence[Peer]
    loads: Sequence[Load]
    rounds: int
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class Journal:
    """
    Every run as soon as it is done, a line each, below one line that says what is measured.

    A run that was interrupted goes on behind its last line, if nothing has changed.
    """

    path: Path

    def resume(self, about: About, plan: Plan) -> tuple[About, list[Run]]:
        """What is there already of this plan; an older one is overwritten."""
        identity = self.identity(about, plan)
        if self.path.exists():
            first, *lines = self.path.read_text().splitlines()
            head = json.loads(first)
            if head["identity"] == identity:
                print(f"going on after {len(lines)} runs that are done (--fresh: from the start)", flush=True)
                return About(**head["about"]), [Run(**json.loads(line)) for line in lines]
            print("the code, the versions or the machine have changed: from the start", flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"identity": identity, "about": asdict(about)}) + "\n")
        return about, []

    def add(self, run: Run) -> None:
        with self.path.open("a") as journal:
            journal.write(json.dumps(asdict(run)) + "\n")

    @staticmethod
    def identity(about: About, plan: Plan) -> str:
        """What must not change between two runs that are compared: versions, sizes, the machine, and our own code."""
        facts = [asdict(dataclasses.replace(about, date=""))]
        facts.append({"peers": [peer.name for peer in plan.peers], "loads": [load.name for load in plan.loads]})
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        sources = [*REPOSITORY.glob("procrastinate_deps/**/*.py"), *REPOSITORY.glob("sql/**/*.sql")]
        sources += [path for path in REPOSITORY.glob("benchmarks/**/*") if path.is_file() and path.suffix != ".pyc"]
        for path in sorted(sources):
            if path.name not in _SHOWING:
                digest.update(path.read_bytes())
        return digest.hexdigest()


def install(peers: Sequence[Peer], home: Path, python: str | None) -> tuple[list[Installed], dict[str, str], str]:
    """The peers that can be measured, those that can't be and why, and the version of their Python."""
    chosen = environments.interpreter(python)
    installed: list[Installed] = []
    left_out: dict[str, str] = {}
    for peer in peers:
        try:
            path = environments.ready(peer, home, chosen)
        except NotInstalledError as error:
            left_out[peer.name] = str(error)
            print(f"LEFT OUT: {error}", flush=True)
        else:
            installed.append(Installed(peer, path, home / "logs" / f"{peer.name}.log"))
    return installed, left_out, chosen.version


def describe(plan: Plan, bench: Bench, installed: Sequence[Installed], left_out: dict[str, str], python: str) -> About:
    return About(
        date=datetime.now(UTC).date().isoformat(),
        cores=machine.cores(),
        memory_gib=machine.memory_gib(),
        system=machine.system(),
        python=python,
        postgresql=str(bench.server.value("SHOW server_version")),
        settings=server.SETTINGS,
        sizes=asdict(plan.sizes),
        rounds=plan.rounds,
        versions={each.peer.environment: environments.versions(each.peer, each.python) for each in installed},
        left_out=left_out,
    )


def run(plan: Plan, home: Path, *, prefix: str, python: str | None = None, fresh: bool = False) -> Results:
    """
    Measure all of it, or what is left of it. Needs minutes, and the machine for itself.

    home: for environments, the server's data, journals and logs.
    prefix: of databases and journals; plans of different sizes don't get into each other's way by it.
    """
    home.mkdir(parents=True, exist_ok=True)
    installed, left_out, version = install(plan.peers, home, python)
    with server.running(home) as started:
        bench = Bench(dataclasses.replace(started, prefix=prefix), plan.sizes)
        about = describe(plan, bench, installed, left_out, version)
        journal = Journal(home / f"{prefix}-{_key(plan)}.jsonl")
        if fresh:
            journal.path.unlink(missing_ok=True)
        about, runs = journal.resume(about, plan)
        identity = journal.identity(about, plan)
        bench.drop_outdated(installed)
        for turn in range(plan.rounds):
            for load in plan.loads:
                for each in _rotated([one for one in installed if load.takes(one.peer)], turn):
                    if not is_due(load, each.peer, turn, runs):
                        continue
                    if journal.identity(about, plan) != identity:
                        raise ChangedError("the code has changed since the start: what is compared must stay the same")
                    done = measure(load, dataclasses.replace(bench, turn=turn), each)
                    if done is not None:
                        runs.append(done)
                        journal.add(done)
    return Results(about, runs)


def _key(plan: Plan) -> str:
    selection = [*(peer.name for peer in plan.peers), *(load.name for load in plan.loads), str(plan.rounds)]
    return hashlib.sha256(" ".join(selection).encode()).hexdigest()[:8]


def _rotated(installed: list[Installed], turn: int) -> list[Installed]:
    """Another one begins in each round."""
    start = turn % len(installed) if installed else 0
    return installed[start:] + installed[:start]


def is_due(load: Load, peer: Peer, turn: int, runs: Sequence[Run]) -> bool:
    """A failure is not tried again: it would fail in the same way, after the same minutes."""
    before = [run for run in runs if run.load == load.name and run.peer == peer.name]
    return not any(run.round == turn or run.failed or (run.capped and load.once_if_capped) for run in before)


def measure(load: Load, bench: Bench, installed: Installed) -> Run | None:
    """One run, told on a line. None: it can't be measured on this machine, and that has been said."""
    began = time.monotonic()
    name = installed.peer.name
    try:
        measured = load.measure(bench, installed)
    except (PeerError, psycopg.Error, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        run = Run(load.name, name, bench.turn, failed=text, took_s=round(time.monotonic() - began, 1))
        print(f"{bench.turn + 1}  {load.name:18} {name:26} FAILED: {text}", flush=True)
        return run
    if measured is None:
        return None
    run = Run(
        load.name,
        name,
        bench.turn,
        {figure: float(f"{value:.5g}") for figure, value in measured.figures.items()},
        measured.capped,
        took_s=round(time.monotonic() - began, 1),
    )
    figures = "  ".join(f"{figure}={value:,.4g}" for figure, value in run.figures.items())
    print(f"{bench.turn + 1}  {load.name:18} {name:26} {figures}{'  (stopped)' * run.capped}", flush=True)
    return run
