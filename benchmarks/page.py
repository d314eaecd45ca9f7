"""docs/benchmarks.md, the whole of it, from what was measured."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from benchmarks import bars
from benchmarks.loads import BATCHES
from benchmarks.measures import CEILING_CLIENTS, WARM_UP_JOBS
from benchmarks.peers import OURS, PEERS, Peer
from benchmarks.results import Results, Spread

WIDTH = 120
NOTHING = "–"

# A line of a table: what it is called, the load, and the load's figure
Line: TypeAlias = tuple[str, str, str]

SPEED: tuple[Line, ...] = (
    ("defer, one at a time", "defer", "jobs_per_s"),
    ("defer in batch", "batch", "jobs_per_s"),
    ("drain, one process", "drain-1", "jobs_per_s"),
    ("drain, two processes", "drain-2", "jobs_per_s"),
)
PICK_UP: tuple[Line, ...] = (
    ("p50, ms", "pick-up", "p50_ms"),
    ("p95, ms", "pick-up", "p95_ms"),
    ("p99, ms", "pick-up", "p99_ms"),
)
GRAPHS: tuple[Line, ...] = (
    ("independent, jobs/s", "graph-independent", "jobs_per_s"),
    ("chain, ms per edge", "graph-chain", "edge_ms"),
    ("chain, p99 of its edges, ms", "graph-chain", "edge_p99_ms"),
    ("fan-out, jobs/s", "graph-fan-out", "jobs_per_s"),
    ("fan-in, jobs/s", "graph-fan-in", "jobs_per_s"),
    ("layered, jobs/s", "graph-layered", "jobs_per_s"),
    ("fan-in, to defer it, s", "graph-fan-in", "submit_s"),
    ("layered, to defer it, s", "graph-layered", "submit_s"),
)
SCHEDULED: tuple[Line, ...] = (
    ("behind them, jobs/s", "behind-scheduled", "jobs_per_s"),
    ("without, jobs/s", "behind-scheduled", "jobs_per_s_without"),
    ("ratio", "behind-scheduled", "ratio"),
)
COSTS: tuple[Line, ...] = (
    ("defer, bytes of WAL", "defer", "wal_bytes_per_job"),
    ("defer in batch, bytes of WAL", "batch", "wal_bytes_per_job"),
    ("drain, bytes of WAL", "drain-1", "wal_bytes_per_job"),
    ("drain, CPU of the worker's process, ms", "drain-1", "cpu_ms_per_job"),
)
RATIOS: tuple[Line, ...] = (
    *SPEED,
    ("pick-up, p50", "pick-up", "p50_ms"),
    ("pick-up, p99", "pick-up", "p99_ms"),
    ("chain, time per edge", "graph-chain", "edge_ms"),
    ("drain behind scheduled jobs", "behind-scheduled", "jobs_per_s"),
)


def render(results: Results) -> str:
    page = Page(results)
    sections = (
        page.head(),
        page.bars(),
        page.speed(),
        page.pick_up(),
        page.graphs(),
        page.backlogs(),
        page.costs(),
        page.ceiling(),
        page.ratios(),
        page.method(),
        page.failures(),
    )
    return "\n\n".join(part for section in sections for part in section) + "\n"


class Page:
    """The sections, each as its parts, between which an empty line stands."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._about = results.about
        self._sizes = {name: f"{value:,.5g}" for name, value in results.about.sizes.items()}
        self._peers = [peer for peer in PEERS if any(run.peer == peer.name for run in results.runs)]

    def head(self) -> list[str]:
        about = self._about
        rounds = "one round" if about.rounds == 1 else f"{about.rounds} rounds"
        left_out = [_prose(f"**Left out: {name}.** {why}") for name, why in about.left_out.items()]
        return [
            "# Benchmarks",
            "`make bench` writes all of this page, from what it measured: [benchmarks.json](benchmarks.json).",
            _prose(
                f"""{about.date}, PostgreSQL {about.postgresql}, Python {about.python}. {about.cores} cores and
                {about.memory_gib} GiB ({about.system}), on which the server, the workers and the clients run together.
                Medians of {rounds}, with the least and the most. The absolute numbers are this machine's: compare
                ratios, and take a difference of less than a third for noise."""
            ),
            *left_out,
        ]

    def bars(self) -> list[str]:
        rows = [
            [
                verdict.bar.what,
                verdict.bar.asked,
                NOTHING if verdict.spread is None else f"{_cell(verdict.spread)} {verdict.bar.unit}",
                f"**{verdict.word}**" if verdict.missed else verdict.word,
            ]
            for verdict in bars.judge(self._results)
        ]
        return [
            "## Bars",
            _prose(
                """What this project holds itself to: ratios of two runs of the same round, judged by the median over
                the rounds. `python -m benchmarks --check` ends with status 1 where one is missed."""
            ),
            _table(["", "asked", "measured", ""], rows),
        ]

    def speed(self) -> list[str]:
        sizes = self._sizes
        return [
            "## Deferring and draining, jobs/s",
            self._figures(SPEED),
            _prose(
                f"""One at a time: {sizes["deferred"]} jobs by one client, each in a transaction of its own. In batch:
                {sizes["batch"]}, by 1,000 to a call. Drain: {sizes["drained"]} jobs that do nothing, there before the
                workers start; from the first body to the moment when the database shows no due job that has not
                ended."""
            ),
            *self._stopped("drain"),
        ]

    def pick_up(self) -> list[str]:
        gap_ms = 1000 * self._about.sizes["pick_up_gap_s"]
        return [
            "## Pick-up",
            self._figures(PICK_UP),
            _prose(
                f"""{self._sizes["picked_up"]} jobs for an idle worker, one each {gap_ms:g} ms: from before the call
                that defers a job, so its commit is part of it, to the first line of the job's body."""
            ),
        ]

    def graphs(self) -> list[str]:
        sizes = self._sizes
        peers = [peer for peer in self._peers if any(self._results.of(load, peer.name) for _, load, _ in GRAPHS)]
        notes = [
            _prose(
                f"""Deferred while a worker waits: {sizes["fan"]} independent jobs; a chain of {sizes["chain"]}; fan-out
                from 1 to {sizes["fan"]}; fan-in from {sizes["fan"]} to 1; {sizes["layers"]} layers of {sizes["layer"]}
                in which every job depends on the whole layer before it. Rates are from the first body to the moment
                when the database shows nothing left."""
            )
        ]
        if by_hand := [peer.name for peer in peers if not peer.dependencies]:
            notes.append(_prose(f"Without dependencies each job of the chain defers the next: {', '.join(by_hand)}."))
        if any(peer.name == "chancy" for peer in peers):
            notes.append(_prose(f"chancy's graphs have {sizes['chancy_fan']} jobs in place of {sizes['fan']}."))
        return ["## Graphs", self._figures(GRAPHS, peers), *notes, *self._stopped("graph"), *self._critical_path()]

    def _critical_path(self) -> list[str]:
        load = "graph-critical-path"
        if not self._results.of(load, OURS):
            return []
        sizes = self._about.sizes
        figures = ("s", "s_without", "ratio", "least_s")
        row = ["first body to last end, s", *(self._spread(load, OURS, figure) for figure in figures)]
        return [
            "### First slots for the longest chain",
            _table(["", 'priority="critical_path"', "without", "ratio", "least possible"], [row]),
            _prose(
                f"""Ours alone: {sizes["short_chains"]} chains of one to three jobs and two of {sizes["long_chain"]},
                added layer by layer; each job sleeps {1000 * sizes["nap_s"]:g} ms, {sizes["naps_at_once"]} run at a
                time. Both twice, in turn, and the means. The least is what the slots or the longest chain take."""
            ),
        ]

    def backlogs(self) -> list[str]:
        sizes = self._sizes
        parts = [
            "## Behind a backlog",
            self._figures(SCHEDULED),
            _prose(
                f"""The drain by one process again, behind {sizes["scheduled"]} jobs that are scheduled for next week
                and without them, one right after the other; ours twice, in turn, and the means of both."""
            ),
            *self._stopped("behind-scheduled"),
        ]
        rows = [
            [title, *(self._spread(load, OURS, figure) for figure in figures)]
            for title, load, figures in (
                (
                    f"drain behind {sizes['blocked']} blocked jobs, jobs/s",
                    "behind-blocked",
                    ("jobs_per_s", "jobs_per_s_without", "ratio"),
                ),
                (
                    f"a fetch of 10 behind {sizes['blocked']} blocked and {sizes['finished']} finished jobs, ms",
                    "fetch",
                    ("ms", "ms_without", "ratio"),
                ),
            )
            if self._results.of(load, OURS)
        ]
        if rows:
            parts += [
                f"Ours alone, for the peers have none of it:\n\n{_table(['', 'behind', 'without', 'ratio'], rows)}"
            ]
        return parts

    def costs(self) -> list[str]:
        return [
            "## What a job costs",
            self._figures(COSTS),
            _prose("WAL is that of the whole server, its own work included."),
        ]

    def ceiling(self) -> list[str]:
        rows = [
            [f"{batch} a call", *(self._spread(f"ceiling-{batch}", OURS, f"jobs_per_s_{n}") for n in CEILING_CLIENTS)]
            for batch in BATCHES
            if self._results.of(f"ceiling-{batch}", OURS)
        ]
        if not rows:
            return []
        return [
            "## The ceiling: the database alone, jobs/s",
            _table(["", *(f"{n} client{'s' * (n > 1)}" for n in CEILING_CLIENTS)], rows),
            _prose(
                """`pgbench` calls `fetch_jobs` and `finish_jobs`, each in a transaction of its own: what a worker would
                reach that needs no time itself."""
            ),
        ]

    def ratios(self) -> list[str]:
        others = [peer for peer in self._peers if not peer.ours]
        rows = []
        for title, load, figure in RATIOS:
            spreads = [
                Spread.of(self._results.ratios((load, OURS, figure), (load, peer.name, figure))) for peer in others
            ]
            if any(spreads):
                rows.append([title, *(NOTHING if spread is None else _cell(spread) for spread in spreads)])
        if not rows:
            return []
        return [
            f"## {OURS} by its peers",
            _table(["", *(peer.name for peer in others)], rows),
            _prose(
                """Each ratio is of two runs of the same round. Of rates those above 1 are in our favour, of times those
                below 1."""
            ),
        ]

    def method(self) -> list[str]:
        about = self._about
        rows = []
        for peer in self._peers:
            versions = about.versions[peer.environment]
            drivers = [f"{name} {version}" for name, version in versions.items() if name != peer.distribution]
            rows.append([peer.name, versions[peer.distribution], ", ".join(drivers), peer.settings, peer.keeps])
        settings = ", ".join(f"`{name} = {value}`" for name, value in about.settings.items())
        points = (
            f"""The server is the embedded PostgreSQL, durable: `fsync`, `synchronous_commit` and `full_page_writes` are
            on. All settings are its defaults but {settings}. It is reached by its socket.""",
            """Each peer has its own virtual environment with pinned packages (`benchmarks/requirements`), all on the
            same Python. All log from WARNING on.""",
            """Each run has a fresh database, copied from a template that was vacuumed and analyzed, and a checkpoint
            before it starts. Peers take turns within a load, and loads within a round; each round begins with another
            peer.""",
            """A body writes its time to shared memory, and nothing else of ours runs in a worker's process. Times are
            of the monotonic clock, which all processes share. After the last body the database is asked each 2 ms
            whether a due job has not ended.""",
            f"""A worker counts as idle a second after its first job (chancy: three, in which it elects a leader).
            Where pick-up is measured, {WARM_UP_JOBS} jobs go before.""",
            f"""A drain is stopped after {about.sizes["drain_cap_s"]:g} s, a graph after
            {about.sizes["graph_cap_s"]:g} s; such a graph is not run again.""",
            """The scheduled backlog is deferred by each peer's own call. The blocked one is loaded by SQL, and then
            every invariant of the tables is checked.""",
        )
        return [
            "## How it is measured",
            _table(["", "version", "with", "settings", "what is kept of a job, and when its end is written"], rows),
            "\n".join(_point(point) for point in points),
        ]

    def failures(self) -> list[str]:
        failed = [run for run in self._results.runs if run.failed]
        if not failed:
            return []
        return ["## What failed", "\n".join(_point(f"{run.load}, {run.peer}: {run.failed}") for run in failed)]

    # -- parts of them

    def _figures(self, lines: Iterable[Line], peers: Sequence[Peer] | None = None) -> str:
        shown = self._peers if peers is None else peers
        rows = [[title, *(self._marked(load, peer, figure) for peer in shown)] for title, load, figure in lines]
        return _table(["", *(peer.name for peer in shown)], rows)

    def _marked(self, load: str, peer: Peer, figure: str) -> str:
        runs = self._results.of(load, peer.name)
        if runs and all(run.failed for run in runs):
            return "failed"
        text = self._spread(load, peer.name, figure)
        return f"{text} ᶜ" if text != NOTHING and any(run.capped for run in runs) else text

    def _stopped(self, loads: str) -> list[str]:
        if not any(run.capped and run.load.startswith(loads) for run in self._results.runs):
            return []
        return [_prose("ᶜ stopped before its end, once at least: of what it had done by then.")]

    def _spread(self, load: str, peer: str, figure: str) -> str:
        spread = self._results.spread(load, peer, figure)
        return NOTHING if spread is None else _cell(spread)


def _cell(spread: Spread) -> str:
    if spread.count == 1:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.least)}–{_number(spread.most)})"


def _number(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".removesuffix(".")


def _prose(text: str) -> str:
    """In lines, of which none ends inside a piece of code."""
    code_kept = re.sub("`[^`]*`", lambda code: code[0].replace(" ", "\0"), " ".join(text.split()))
    return textwrap.fill(code_kept, WIDTH, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def _point(text: str) -> str:
    return textwrap.indent(_prose(text), "  ").replace("  ", "- ", 1)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
