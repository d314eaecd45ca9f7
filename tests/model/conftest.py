"""
Few and always the same examples by default. A night's search:
`pytest tests/model --hypothesis-profile=long --timeout=0`.

(Named by its folder, so that this file is read before the profile is looked for.)
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

LONG = "long"

settings.register_profile(
    LONG,
    max_examples=20_000,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
