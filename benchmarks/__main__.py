"""Every benchmark, one after another: `python -m benchmarks`. There is one so far."""

from __future__ import annotations

import sys

from benchmarks import fetch_backlog

if __name__ == "__main__":
    sys.exit(fetch_backlog.main())
