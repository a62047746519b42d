"""What a PromQL expression asks for, and what there is to ask for."""

from __future__ import annotations

from functools import cache
from typing import Any

import promql_parser

from monitoring import metrics

_HISTOGRAM = ("_bucket", "_count", "_sum")
#: The library's own families and what is said of processes, with their labels.
KIT: dict[str, set[str]] = {
    "multiproc_bad_files": {"reason"},
    "multiproc_bytes": set(),
    "multiproc_dropped_observations_total": {"reason"},
    "multiproc_elected": {"role"},
    "multiproc_files": set(),
    "multiproc_free_bytes": set(),
    "multiproc_mixed_samples": {"reason"},
    "multiproc_refused_series_total": {"family"},
    "multiproc_scrape_duration_seconds_bucket": {"le"},
    "multiproc_scrape_duration_seconds_count": set(),
    "multiproc_scrape_duration_seconds_sum": set(),
    "multiproc_scrapes_total": set(),
    "multiproc_workers": set(),
    "multiproc_workers_started_total": set(),
    "process_cpu_seconds_total": {"worker"},
    "process_max_fds": {"worker"},
    "process_open_fds": {"worker"},
    "process_resident_memory_bytes": {"worker"},
    "process_start_time_seconds": {"worker"},
    "process_virtual_memory_bytes": {"worker"},
    "python_gc_collections_total": {"worker", "generation"},
    "python_gc_objects_collected_total": {"worker", "generation"},
    "python_info": {"worker", "implementation", "major", "minor", "patchlevel", "version"},
}


@cache
def families() -> dict[str, set[str]]:
    """Give every series' name of the service, with its labels."""
    found = {name: set(labels) for name, labels in KIT.items()}
    for family in metrics.FAMILIES:
        labels = set(family.labels)
        if family.kind == "histogram":
            found |= {f"{family.name}{suffix}": labels | ({"le"} if suffix == "_bucket" else set()) for suffix in _HISTOGRAM}
        else:
            found[family.name] = labels
    return found


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Give the family of each selector, and all labels that it is asked and grouped by."""
    found: list[tuple[str, set[str]]] = []
    _walk(promql_parser.parse(expression), set(), found)
    return found


def _walk(node: Any, grouped: set[str], found: list[tuple[str, set[str]]]) -> None:
    kind = type(node).__name__
    if kind == "AggregateExpr":
        by = set(node.modifier.labels) if node.modifier is not None else set()
        _walk(node.expr, grouped | by, found)
    elif kind == "Call":
        # label_replace makes a label that no family has.
        for each in node.args:
            _walk(each, grouped, found)
    elif kind == "BinaryExpr":
        _walk(node.lhs, grouped, found)
        _walk(node.rhs, grouped, found)
    elif kind in {"ParenExpr", "UnaryExpr", "SubqueryExpr"}:
        _walk(node.expr, grouped, found)
    elif kind == "MatrixSelector":
        _walk(node.vector_selector, grouped, found)
    elif kind == "VectorSelector":
        matched = {matcher.name for matcher in node.matchers.matchers}
        found.append((node.name, matched | grouped))
    else:
        assert kind in {"NumberLiteral", "StringLiteral"}, kind
