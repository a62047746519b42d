"""Workers: slots, restarts, memory, the metrics directory, and what a scrape costs."""

from __future__ import annotations

from monitoring.grafana.dashboard import Dashboard, Rows
from monitoring.grafana.panels import GREEN, RED, figure, graph, timeline
from monitoring.grafana.queries import WORKERS, Queries

_STARTED = "multiproc_workers_started_total"
_MERGE = "multiproc_scrape_duration_seconds"


def workers(ask: Queries) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        "Workers",
        "The processes behind the service, each in its slot (s0, s1, ...), and the metrics directory that they share.",
        {
            "Now": _now(ask),
            "Slots": _slots(ask),
            "Processes": _processes(ask),
            "Metrics directory": _directory(ask),
            "Scrapes": _scrapes(ask),
        },
    )


def _now(ask: Queries) -> Rows:
    free, used = ask.greatest("multiproc_free_bytes", by="instance"), ask.greatest("multiproc_bytes", by="instance")
    least = ask.configuration.directory_free_ratio
    held = ask.total("multiproc_workers")
    yield {
        "Workers": figure("Processes that hold a slot, in all instances.", held, below=(1,), alerts=("NoWorkers",)),
        "Starts": figure("Workers that were started in the time shown.", ask.gained(_STARTED), alerts=("WorkersRestarting",)),
        "Free space": figure(
            "Free share of the size to which the metrics directory can grow, in the fullest instance.",
            f"min ({free} / ({free} + {used}))",
            unit="percentunit",
            below=(least / 2, least),
            alerts=("MetricsDirectoryFillingUp",),
        ),
        "Merge, p95": figure(
            "95% of the merges of all workers' values, one for each scrape, are done within this time.",
            ask.quantile(_MERGE),
            above=(0.25, 1),
        ),
    }


def _slots(ask: Queries) -> Rows:
    yield {
        "Workers by instance": graph(
            "Processes that hold a slot: during a reload, old and new ones.",
            ask.greatest("multiproc_workers", by="instance"),
            alerts=("NoWorkers",),
        ),
        "Starts by instance": graph(
            "Workers per minute that were started: by a reload, after a death, or recycled after MAX_REQUESTS.",
            60 * ask.rate(_STARTED, by="instance"),
            alerts=("WorkersRestarting",),
        ),
        "Age": graph(
            "Time since the process in a slot has started.",
            "time()" - ask.greatest("process_start_time_seconds", WORKERS, by="instance, worker"),
            alerts=("WorkersRestarting",),
        ),
    }
    yield {
        "Elected writers": timeline(
            "Whether a process of the instance holds a role: it alone writes the values of users, agents, devices or the store.",
            ask.greatest("multiproc_elected", by="instance, role"),
            words=(("0", "vacant", RED), ("1", "held", GREEN)),
            below=(1,),
            alerts=("NoElectedWriter",),
        )
    }


def _processes(ask: Queries) -> Rows:
    memory, address_space, opened, limit = (
        ask.greatest(f"process_{family}", WORKERS, by="instance, worker")
        for family in ("resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds")
    )
    yield {
        "Memory": graph("Resident memory of a worker, with the pages that it shares with others.", memory, alerts=("PodMemoryUsageHigh",)),
        "CPU": graph(
            "Cores that a worker uses: one that uses a whole core has no time left for its event loop.",
            ask.rate("process_cpu_seconds_total", WORKERS, by="instance, worker"),
            above=(0.9,),
            alerts=("PodCPUUsageHigh",),
        ),
    }
    yield {
        "Open files": graph(
            "Share of the file descriptors that a worker may have and has: connections need one each.",
            opened / limit,
            above=(0.8, 0.95),
        ),
        "Address space": graph("Virtual memory of a worker. Pages that are mapped and never touched cost nothing.", address_space),
    }


def _directory(ask: Queries) -> Rows:
    files, size, free = (ask.greatest(f"multiproc_{name}", by="instance") for name in ("files", "bytes", "free_bytes"))
    yield {
        "Files": graph("Value files: as many as the most processes that ever lived at once need, however many have lived.", files),
        "Bytes": graph("Size of the value files.", size, alerts=("MetricsDirectoryFillingUp",)),
        "Free bytes": graph(
            "Space left on the file system of the metrics directory. When there is none, new series are not counted.",
            free,
            alerts=("MetricsDirectoryFillingUp",),
        ),
    }
    bad, mixed = (ask.greatest(f"multiproc_{name}", by="instance, reason") for name in ("bad_files", "mixed_samples"))
    refused = ask.total("multiproc_refused_series_total", by="instance, family")
    # A family that has refused nothing has no series.
    nothing = f'label_replace(0 * {ask.greatest("multiproc_workers", by="instance")}, "family", "none", "", "")'
    yield {
        "Bad files and mixed samples": graph(
            "Files that are skipped or kept at their last good values, and samples of an older type or mode that are left out.",
            bad,
            mixed.named("mixed, {{reason}}, on {{instance}}"),
            above=(1,),
            alerts=("MetricsFilesBad",),
        ),
        "Refused series since the instances began": graph(
            "Calls with new labels that went to the series `_other`, since the family had reached its cap.",
            refused | nothing,
            above=(1,),
            alerts=("MetricsSeriesRefused",),
        ),
        "Dropped observations since the instances began": graph(
            "Observations that were dropped: counters are too low by that.",
            ask.total("multiproc_dropped_observations_total", by="instance, reason"),
            above=(1,),
            alerts=("MetricsObservationsDropped",),
        ),
    }


def _scrapes(ask: Queries) -> Rows:
    yield {
        "Merge duration": graph(
            "Time that it takes to merge all workers' values, once for each scrape: half of the merges and 95% are faster.",
            *ask.quantiles(0.5, 0.95, of=_MERGE),
        ),
        "Merges": graph(
            "Merges per second: scrapes that come at once share one.",
            ask.rate("multiproc_scrapes_total", by="instance"),
            unit="ops",
            alerts=("MetricsTargetDown",),
        ),
        "Share of the time spent merging": graph(
            "Time spent merging per second of the clock: what all scrapes cost, in the exporter's process and not in the workers'.",
            ask.rate(f"{_MERGE}_sum", by="instance"),
            unit="percentunit",
        ),
    }
