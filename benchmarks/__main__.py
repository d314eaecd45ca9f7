"""
Measure this project and its peers, side by side: `python -m benchmarks`.

A full run writes docs/benchmarks.md and, beside it, what it was made from. One that was interrupted goes on when it is
started again. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import bars, harness, loads, page, peers
from benchmarks.environments import REPOSITORY
from benchmarks.results import Results
from benchmarks.sizes import FULL, QUICK
from procrastinate_deps._embedded.locks import FileLock

RESULTS = REPOSITORY / "docs" / "benchmarks.json"
PAGE = REPOSITORY / "docs" / "benchmarks.md"
ROUNDS = 3


def main() -> int:
    options = _parser().parse_args()
    if options.check or options.page:
        if not RESULTS.exists():
            print(f"{RESULTS.name} is not there: run `python -m benchmarks` first", file=sys.stderr)
            return 1
        results = Results.read(RESULTS)
        if options.page:
            PAGE.write_text(page.render(results), encoding="utf-8")
        return int(not _show_bars(results)) if options.check else 0

    home = Path(options.home).absolute()
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "lock")
    if not lock.acquire(blocking=False):
        print(f"another run is under way in {home}", file=sys.stderr)
        return 1
    plan = harness.Plan(
        peers=[peers.BY_NAME[name] for name in options.peers],
        loads=[loads.BY_NAME[name] for name in options.loads],
        rounds=options.rounds or (1 if options.quick else ROUNDS),
        sizes=QUICK if options.quick else FULL,
    )
    try:
        results = harness.run(
            plan, home, prefix="quick" if options.quick else "full", python=options.python, fresh=options.fresh
        )
    except harness.ChangedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        lock.release()
    results.write(home / "results.json")
    (home / "results.md").write_text(page.render(results), encoding="utf-8")
    whole = options.peers == list(peers.BY_NAME) and options.loads == list(loads.BY_NAME)
    if whole and not options.quick and plan.rounds >= ROUNDS:
        results.write(RESULTS)
        PAGE.write_text(page.render(results), encoding="utf-8")
        print(f"written: {PAGE.relative_to(REPOSITORY)}, {RESULTS.relative_to(REPOSITORY)}")
    else:
        print(f"written: {home / 'results.md'} (only a full run of {ROUNDS} rounds writes docs/)")
    _show_bars(results)
    return 0


def _show_bars(results: Results) -> bool:
    """Whether every bar is met."""
    verdicts = bars.judge(results)
    for verdict in verdicts:
        print(verdict)
    return not any(verdict.missed for verdict in verdicts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, one round: does everything work?")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default: {ROUNDS}, or 1 with --quick")
    for name, every in (("loads", list(loads.BY_NAME)), ("peers", list(peers.BY_NAME))):
        parser.add_argument(
            f"--{name}",
            type=_chosen(every),
            default=every,
            metavar="A,B",
            help=f"some of: {', '.join(every)}",
        )
    parser.add_argument(
        "--home",
        default=str(REPOSITORY / ".bench"),
        metavar="FOLDER",
        help="for the peers' environments, the server's data (3 GB) and what is done so far; default: .bench here",
    )
    parser.add_argument("--python", metavar="PATH", help="of all environments (default: 3.12, where it is found)")
    parser.add_argument("--fresh", action="store_true", help="from the start, whatever an interrupted run has done")
    parser.add_argument(
        "--check", action="store_true", help="measure nothing; end with status 1 if docs/benchmarks.json misses a bar"
    )
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page anew from its results")
    return parser


def _chosen(every: list[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(every)):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(every)}")
        return [name for name in every if name in names]

    return read


if __name__ == "__main__":
    sys.exit(main())
