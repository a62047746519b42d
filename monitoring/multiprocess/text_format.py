"""The text of an exposition, byte for byte as prometheus_client writes it: heads of families, the fixed part of each line, numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as upstream
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

#: From here on Go, and so every client, writes an exponent.
EXPONENT = 1e6
#: The classic format's words for OpenMetrics's types.
_CLASSIC = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram", "unknown": "untyped"}
_SUFFIX = {"counter": "_total", "info": "_info"}
EOF_LINE = b"# EOF\n"


def head(name: str, kind: str, text: str, *, openmetrics: bool) -> str:
    """HELP and TYPE of a family."""
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        text = text.replace('"', r"\"")
    else:
        name, kind = name + _SUFFIX.get(kind, ""), _CLASSIC.get(kind, kind)
    name = _metric_name(name)
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def family(metric: Metric, *, openmetrics: bool) -> str:
    """All of one family, by prometheus_client itself."""
    if openmetrics:
        text: bytes = upstream.generate_latest(_Only(metric))  # type: ignore[no-untyped-call]
        return text.decode().removesuffix("# EOF\n")
    return exposition.generate_latest(_Only(metric)).decode()


class _Only:
    """A registry of one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def prefix(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """A sample's line up to its value."""
    return line(name, ",".join(map(pair, sorted(labels))))


def line(name: str, labels: str) -> str:
    """A sample's line up to its value, with the text of its labels."""
    return f"{_metric_name(name)}{{{labels}}} " if labels else f"{_metric_name(name)} "


def identity(name: str, labels: tuple[tuple[str, str], ...], prefix: str, *, exact: bool) -> str:
    """What no other sample has: the line up to its value, and more where names are not `exact`, since others may be written alike."""
    return prefix if exact else f"{prefix}{name}{labels}"


def exact(name: str, labels: Iterable[str]) -> bool:
    """Return whether a line has these names as they are, with nothing escaped."""
    return _metric_name(name) == name and all(_label_name(label) == label for label in labels)


def number(value: float) -> str:
    """A value as Go writes it."""
    return repr(value) if -EXPONENT < value < EXPONENT else floatToGoString(value)  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1 << 14)
def pair(labelled: tuple[str, str]) -> str:
    """A label and its value, in a line."""
    label, value = labelled
    if "\\" in value or "\n" in value or '"' in value:
        value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{_label_name(label)}="{value}"'


@lru_cache(maxsize=4096)
def _label_name(name: str) -> str:
    return upstream.escape_label_name(name)


@lru_cache(maxsize=4096)
def _metric_name(name: str) -> str:
    return upstream.escape_metric_name(name)


@lru_cache(maxsize=1024)
def le(bound: float) -> tuple[tuple[str, str], str]:
    """A bound as a label, and its text in a line."""
    label = "le", floatToGoString(bound)  # type: ignore[no-untyped-call]
    return label, pair(label)
