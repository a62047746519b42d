"""The library's own families, each declared once: `multiproc_*`.

Workers write some of them, merging processes others, and an exporter shows one where no worker ever was. This module imports nothing
of the library, so that an exporter needs no part of a worker to name a family of the worker's.
"""

from __future__ import annotations

from typing import NamedTuple


class LibraryFamily(NamedTuple):
    """One family; the fields in the order of `declarations.Family`. `mode` is the multiprocess mode of a gauge that workers write."""

    name: str
    type: str
    help: str
    mode: str = ""
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """The name of its samples."""
        return f"{self.name}_total" if self.type == "counter" else self.name

    def value(self, *labelvalues: str) -> tuple[str, str, str, tuple[str, ...], tuple[str, ...], str, str]:
        """Return the arguments with which a worker makes the value of one label set."""
        return self.type, self.name, self.sample, self.labels, labelvalues, self.help, self.mode


BAD_FILES = LibraryFamily("multiproc_bad_files", "gauge", "Value files skipped, or kept at their last good values.", labels=("reason",))
BYTES = LibraryFamily("multiproc_bytes", "gauge", "Size of the value files in the metrics directory.")
DROPPED = LibraryFamily(
    "multiproc_dropped_observations",
    "counter",
    "Observations refused because the metrics directory had no room for their series or no slot for their process.",
    labels=("reason",),
)
DROPPED_REASONS = ("no_space", "no_slot")
ELECTED = LibraryFamily("multiproc_elected", "gauge", "1 while a process holds the role, 0 while none does.", "livemax", ("role",))
FILES = LibraryFamily("multiproc_files", "gauge", "Value files in the metrics directory.")
FREE_BYTES = LibraryFamily("multiproc_free_bytes", "gauge", "Space left on the file system of the metrics directory.")
MIXED_SAMPLES = LibraryFamily("multiproc_mixed_samples", "gauge", "Samples of an older type or mode, left out.", labels=("reason",))
REFUSED_SERIES = LibraryFamily(
    "multiproc_refused_series", "counter", "Calls of labels() that were given the overflow series.", labels=("family",)
)
SCRAPES = LibraryFamily("multiproc_scrapes", "counter", "Merges of all value files into one view.")
SCRAPE_DURATION = LibraryFamily("multiproc_scrape_duration_seconds", "histogram", "Time that a merge took.")
WORKERS = LibraryFamily("multiproc_workers", "gauge", "Processes that hold a slot.")
WORKERS_STARTED = LibraryFamily("multiproc_workers_started", "counter", "Processes that took a slot, since the run began.")
