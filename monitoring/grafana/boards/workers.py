"""Workers: slots, restarts, memory, the metrics directory, and what a scrape costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.dashboard import Dashboard, Section
from monitoring.grafana.panels import GREEN, RED, Panel, Query, figure, graph, latency, timeline
from monitoring.grafana.queries import WORKERS

if TYPE_CHECKING:
    from monitoring.grafana.queries import Queries

_STARTED = "multiproc_workers_started_total"
_MERGE = "multiproc_scrape_duration_seconds"
_SLOT = "{{worker}} on {{instance}}"


def workers(queries: Queries) -> Dashboard:
    """Give it from top to bottom."""
    return Dashboard(
        "Workers",
        "The processes behind the service, each in its slot (s0, s1, ...), and the metrics directory that they share.",
        (
            Section("Now", (_now(queries),)),
            Section("Slots", (_slots(queries), (_roles(queries),))),
            Section("Processes", (_processes(queries), _limits(queries))),
            Section("Metrics directory", (_directory(queries), _damage(queries))),
            Section("Scrapes", (_scrapes(queries),)),
        ),
    )


def _now(queries: Queries) -> tuple[Panel, ...]:
    free, used = queries.greatest("multiproc_free_bytes", by="instance"), queries.greatest("multiproc_bytes", by="instance")
    return (
        figure(
            "Workers",
            "Processes that hold a slot, in all instances.",
            "short",
            queries.total("multiproc_workers"),
            below=(1,),
            alerts=("NoWorkers",),
        ),
        figure(
            "Starts",
            "Workers that were started in the time shown.",
            "short",
            Query(queries.gained(_STARTED), instant=True),
            alerts=("WorkersRestarting",),
        ),
        figure(
            "Free space",
            "Free share of the size to which the metrics directory can grow, in the fullest instance.",
            "percentunit",
            f"min ({free} / ({free} + {used}))",
            below=(queries.configuration.directory_free_ratio / 2, queries.configuration.directory_free_ratio),
            alerts=("MetricsDirectoryFillingUp",),
        ),
        figure(
            "Merge, p95",
            "95% of the merges of all workers' values, one for each scrape, are done within this time.",
            "s",
            Query(queries.quantile(0.95, _MERGE), exemplar=True),
            above=(0.25, 1),
        ),
    )


def _slots(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Workers by instance",
            "Processes that hold a slot: during a reload, old and new ones.",
            "short",
            Query(queries.greatest("multiproc_workers", by="instance"), "{{instance}}"),
            alerts=("NoWorkers",),
        ),
        graph(
            "Starts by instance",
            "Workers per minute that were started: by a reload, after a death, or recycled after MAX_REQUESTS.",
            "short",
            Query(f"60 * {queries.rate(_STARTED, by='instance')}", "{{instance}}"),
            alerts=("WorkersRestarting",),
        ),
        graph(
            "Age",
            "Time since the process in a slot has started.",
            "s",
            Query(f"time() - {queries.greatest('process_start_time_seconds', WORKERS, by='instance, worker')}", _SLOT),
            alerts=("WorkersRestarting",),
        ),
    )


def _roles(queries: Queries) -> Panel:
    return timeline(
        "Elected writers",
        "Whether a process of the instance holds a role: it alone writes the values of users, agents, devices or the store.",
        "none",
        Query(queries.greatest("multiproc_elected", by="instance, role"), "{{role}} on {{instance}}"),
        words=(("0", "vacant", RED), ("1", "held", GREEN)),
        below=(1,),
        alerts=("NoElectedWriter",),
    )


def _processes(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Memory",
            "Resident memory of a worker, with the pages that it shares with others.",
            "bytes",
            Query(queries.greatest("process_resident_memory_bytes", WORKERS, by="instance, worker"), _SLOT),
            alerts=("PodMemoryUsageHigh",),
        ),
        graph(
            "CPU",
            "Cores that a worker uses: one that uses a whole core has no time left for its event loop.",
            "short",
            Query(queries.rate("process_cpu_seconds_total", WORKERS, by="instance, worker"), _SLOT),
            above=(0.9,),
            alerts=("PodCPUUsageHigh",),
        ),
    )


def _limits(queries: Queries) -> tuple[Panel, ...]:
    descriptors = queries.greatest("process_open_fds", WORKERS, by="instance, worker")
    return (
        graph(
            "Open files",
            "Share of the file descriptors that a worker may have and has: connections need one each.",
            "percentunit",
            Query(f"{descriptors} / {queries.greatest('process_max_fds', WORKERS, by='instance, worker')}", _SLOT),
            above=(0.8, 0.95),
        ),
        graph(
            "Address space",
            "Virtual memory of a worker. Pages that are mapped and never touched cost nothing.",
            "bytes",
            Query(queries.greatest("process_virtual_memory_bytes", WORKERS, by="instance, worker"), _SLOT),
        ),
    )


def _directory(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Files",
            "Value files: as many as the most processes that ever lived at once need, however many have lived.",
            "short",
            Query(queries.greatest("multiproc_files", by="instance"), "{{instance}}"),
        ),
        graph(
            "Bytes",
            "Size of the value files.",
            "bytes",
            Query(queries.greatest("multiproc_bytes", by="instance"), "{{instance}}"),
            alerts=("MetricsDirectoryFillingUp",),
        ),
        graph(
            "Free bytes",
            "Space left on the file system of the metrics directory. When there is none, new series are not counted.",
            "bytes",
            Query(queries.greatest("multiproc_free_bytes", by="instance"), "{{instance}}"),
            alerts=("MetricsDirectoryFillingUp",),
        ),
    )


def _damage(queries: Queries) -> tuple[Panel, ...]:
    refused = queries.total("multiproc_refused_series_total", by="instance, family")
    # A family that has refused nothing has no series.
    nothing = f'label_replace(0 * {queries.greatest("multiproc_workers", by="instance")}, "family", "none", "", "")'
    return (
        graph(
            "Bad files and mixed samples",
            "Files that are skipped or kept at their last good values, and samples of an older type or mode that are left out.",
            "short",
            Query(queries.greatest("multiproc_bad_files", by="instance, reason"), "{{reason}} on {{instance}}"),
            Query(queries.greatest("multiproc_mixed_samples", by="instance, reason"), "mixed, {{reason}}, on {{instance}}"),
            above=(1,),
            alerts=("MetricsFilesBad",),
        ),
        graph(
            "Refused series since the instances began",
            "Calls with new labels that went to the series `_other`, since the family had reached its cap.",
            "short",
            Query(f"{refused} or {nothing}", "{{family}} on {{instance}}"),
            above=(1,),
            alerts=("MetricsSeriesRefused",),
        ),
        graph(
            "Dropped observations since the instances began",
            "Observations that were dropped: counters are too low by that.",
            "short",
            Query(queries.total("multiproc_dropped_observations_total", by="instance, reason"), "{{reason}} on {{instance}}"),
            above=(1,),
            alerts=("MetricsObservationsDropped",),
        ),
    )


def _scrapes(queries: Queries) -> tuple[Panel, ...]:
    return (
        latency(
            "Merge duration",
            "Time that it takes to merge all workers' values, once for each scrape: half of the merges and 95% are faster.",
            {f"p{part * 100:g}": queries.quantile(part, _MERGE) for part in (0.5, 0.95)},
        ),
        graph(
            "Merges",
            "Merges per second: scrapes that come at once share one.",
            "ops",
            Query(queries.rate("multiproc_scrapes_total", by="instance"), "{{instance}}"),
            alerts=("MetricsTargetDown",),
        ),
        graph(
            "Share of the time spent merging",
            "Time spent merging per second of the clock: what all scrapes cost, in the exporter's process and not in the workers'.",
            "percentunit",
            Query(queries.rate(f"{_MERGE}_sum", by="instance"), "{{instance}}"),
        ),
    )
