"""What is made of the runs: ratios within a round, bars, the page, and going on after an interruption."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import bars, environments, harness, loads, page, peers
from benchmarks.bars import Bar
from benchmarks.environments import Interpreter, NotInstalledError
from benchmarks.harness import Journal, Plan
from benchmarks.measures import percentile
from benchmarks.peers import OURS
from benchmarks.results import About, Results, Run, Spread
from benchmarks.sizes import FULL, QUICK

ABOUT = About(
    date="2026-01-01",
    cores=2,
    memory_gib=4,
    system="Linux x86_64",
    python="3.12.1",
    postgresql="18.0",
    settings={"max_connections": "200"},
    sizes=asdict(QUICK),
    rounds=3,
    versions={peer.environment: {peer.distribution: "1.0", "psycopg": "3.3"} for peer in peers.PEERS},
    left_out={},
)
DRAIN = Bar("drain", ("drain-1", OURS, "jobs_per_s"), ("drain-1", "pgqueuer", "jobs_per_s"), at_least=True, limit=1.5)
CHAIN = Bar("chain", ("graph-chain", OURS, "edge_ms"), None, at_least=False, limit=4, unit="ms")


def runs(load: str, peer: str, figure: str, values: list[float]) -> list[Run]:
    return [Run(load, peer, turn, {figure: value}) for turn, value in enumerate(values)]


def drained(ours: list[float], theirs: list[float]) -> Results:
    return Results(
        ABOUT,
        [*runs("drain-1", OURS, "jobs_per_s", ours), *runs("drain-1", "pgqueuer", "jobs_per_s", theirs)],
    )


def verdict(bar: Bar, results: Results, monkeypatch: pytest.MonkeyPatch) -> bars.Verdict:
    monkeypatch.setattr(bars, "BARS", (bar,))
    [found] = bars.judge(results)
    return found


# Ratios and bars


def test_a_ratio_is_of_two_runs_of_the_same_round() -> None:
    # of the medians it would be 1, of the same rounds it is 2
    results = drained([200, 20, 2000], [100, 10, 1000])
    above, below = ("drain-1", OURS, "jobs_per_s"), ("drain-1", "pgqueuer", "jobs_per_s")
    assert results.ratios(above, below) == [2, 2, 2]
    shifted = Results(ABOUT, [run for run in results.runs if (run.peer, run.round) not in ((OURS, 0), ("pgqueuer", 2))])
    assert shifted.ratios(above, below) == [2]


def test_the_median_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verdict(DRAIN, drained([100, 160, 170], [100, 100, 100]), monkeypatch)
    assert found.word == "pass"
    assert found.spread == Spread(1.6, 1.0, 1.7, 3)
    assert verdict(DRAIN, drained([200, 149, 149], [100, 100, 100]), monkeypatch).word == "miss"


def test_a_limit_from_above(monkeypatch: pytest.MonkeyPatch) -> None:
    for ms, word in ((3.9, "pass"), (4.0, "pass"), (4.1, "miss")):
        assert verdict(CHAIN, Results(ABOUT, runs("graph-chain", OURS, "edge_ms", [ms])), monkeypatch).word == word


def test_a_run_that_failed_misses_and_one_that_was_not_asked_for_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = runs("drain-1", OURS, "jobs_per_s", [100])
    assert verdict(DRAIN, Results(ABOUT, ours), monkeypatch).word == "not measured"
    failed = Run("drain-1", "pgqueuer", 0, failed="it died")
    assert verdict(DRAIN, Results(ABOUT, [*ours, failed]), monkeypatch).missed


def test_check_ends_with_status_1_on_a_miss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--check"])
    assert command.main() == 1, "there is nothing to judge"
    drained([160], [100]).write(command.RESULTS)
    assert command.main() == 0
    drained([140], [100]).write(command.RESULTS)
    assert command.main() == 1
    out = capsys.readouterr().out
    assert "miss          drain by one process, to pgqueuer: asked ≥ 1.5 ×, measured 1.4" in out


def test_every_bar_is_of_figures_that_the_loads_give() -> None:
    results = Results.read(command.RESULTS)
    for bar in bars.BARS:
        for load, peer, figure in (bar.ours, bar.to or bar.ours):
            assert loads.BY_NAME[load].takes(peers.BY_NAME[peer])
            if peer not in results.about.left_out:
                assert results.values(load, peer, figure), bar.what


def test_percentiles_are_of_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 99) == 7.0


# The page


def test_the_page_is_what_the_results_say() -> None:
    """Where this fails: `python -m benchmarks --page`."""
    assert command.PAGE.read_text(encoding="utf-8") == page.render(Results.read(command.RESULTS))


def test_the_page_names_no_path() -> None:
    for path in (command.PAGE, command.RESULTS):
        text = path.read_text(encoding="utf-8")
        assert str(environments.REPOSITORY) not in text
        assert str(Path.home()) + "/" not in text


def test_the_page_shows_misses_failures_and_who_is_left_out() -> None:
    about = dataclasses.replace(ABOUT, left_out={"oban": "oban needs Python 3.12"})
    results = drained([140], [100])
    text = page.render(Results(about, [*results.runs, Run("batch", "chancy", 0, failed="it died")]))
    assert "**Left out: oban.** oban needs Python 3.12" in text
    assert "| drain by one process, to pgqueuer | ≥ 1.5 × | 1.40 × | **miss** |" in text
    assert "batch, chancy: it died" in text
    assert "| defer in batch | – | – | failed |" in text


def test_a_run_that_was_stopped_is_marked() -> None:
    stopped = [dataclasses.replace(run, capped=True) for run in runs("drain-1", OURS, "jobs_per_s", [123])]
    text = page.render(Results(ABOUT, stopped))
    assert "| drain, one process | 123 ᶜ |" in text
    assert "ᶜ stopped" in text
    assert "ᶜ" not in page.render(Results(ABOUT, runs("drain-1", OURS, "jobs_per_s", [123])))


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = Results(ABOUT, [Run("batch", "chancy", 0, failed="it died"), *drained([1.5], [2.5]).runs])
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results


# Going on


def test_an_interrupted_run_goes_on_behind_its_last_line(tmp_path: Path) -> None:
    plan = Plan(peers.PEERS, loads.LOADS, 3, QUICK)
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.resume(ABOUT, plan) == (ABOUT, [])
    done = runs("drain-1", OURS, "jobs_per_s", [1, 2])
    for run in done:
        journal.add(run)
    next_day = dataclasses.replace(ABOUT, date="2026-01-02")
    assert journal.resume(next_day, plan) == (ABOUT, done)


@pytest.mark.parametrize("change", ["postgresql", "sizes", "loads"])
def test_what_was_measured_on_something_else_is_not_gone_on_with(change: str, tmp_path: Path) -> None:
    plan = Plan(peers.PEERS, loads.LOADS, 3, QUICK)
    journal = Journal(tmp_path / "journal.jsonl")
    journal.resume(ABOUT, plan)
    journal.add(Run("drain-1", OURS, 0))
    about = dataclasses.replace(ABOUT, postgresql="18.1") if change == "postgresql" else ABOUT
    about = dataclasses.replace(about, sizes=asdict(FULL)) if change == "sizes" else about
    plan = dataclasses.replace(plan, loads=loads.LOADS[:1]) if change == "loads" else plan
    assert journal.resume(about, plan) == (about, [])


def test_what_failed_or_is_done_is_not_run_again() -> None:
    drain, chain = loads.BY_NAME["drain-1"], loads.BY_NAME["graph-chain"]
    peer = peers.BY_NAME["pgqueuer"]
    is_due = harness.is_due
    assert is_due(drain, peer, 1, [Run("drain-1", "pgqueuer", 0)])
    assert not is_due(drain, peer, 1, [Run("drain-1", "pgqueuer", 1)])
    assert not is_due(drain, peer, 1, [Run("drain-1", "pgqueuer", 0, failed="it died")])
    assert is_due(drain, peer, 1, [Run("drain-1", "pgqueuer", 0, capped=True)])
    assert not is_due(chain, peer, 1, [Run("graph-chain", "pgqueuer", 0, capped=True)])
    assert is_due(drain, peer, 1, [Run("drain-1", "oban", 1)])


# Who can't be installed


def test_a_peer_that_needs_another_python_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match=r"oban needs Python 3\.12, and 3\.11\.2 is all there is"):
        environments.ready(peers.BY_NAME["oban"], tmp_path, Interpreter(sys.executable, "3.11.2"))


def test_a_peer_that_cannot_be_installed_is_left_out_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "REQUIREMENTS", tmp_path)
    (tmp_path / "pgqueuer.txt").write_text(f"{tmp_path}/no_such_folder\n")
    installed, left_out, _ = harness.install([peers.BY_NAME["pgqueuer"]], tmp_path / "home", sys.executable)
    assert installed == []
    assert "no_such_folder" in left_out["pgqueuer"]
    assert "LEFT OUT: pgqueuer can't be installed" in capsys.readouterr().out
