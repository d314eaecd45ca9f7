"""Times and amounts as a person reads them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """`0.35 s`, `12 s`, `4 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def counted(number: int, noun: str) -> str:
    """`1 job`, `1,200 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def bar(fraction: float, width: int) -> str:
    """A progress bar of so many characters."""
    full = int(fraction * width)
    return "━" * full + "┄" * (width - full)


def percent(fraction: float) -> str:
    """Never 100 % before it is, nor 0 % once something is done."""
    shown = round(100 * fraction)
    if fraction < 1:
        shown = min(shown, 99)
    return f"{max(shown, 1) if fraction > 0 else shown}%"
