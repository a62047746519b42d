"""The library's own metric families, which several rooms of the library write or show."""

from __future__ import annotations

from .declarations import Family

DROPPED = Family(
    "multiproc_dropped_observations",
    "counter",
    "Observations refused because the metrics directory had no room for their series or no slot for their process.",
    labels=("reason",),
)
DROPPED_REASONS = ("no_space", "no_slot")
