"""The clock that pauses are measured with."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Seconds since some moment; it only goes forward, and on Linux also while the machine sleeps.

    A stopped process, too, finds on waking how long it was stopped.
    """
    return time.clock_gettime(_CLOCK)
