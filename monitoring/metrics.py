"""The catalogue: every family of the service, declared once, with what it means under many workers.

Import it after `monitoring.multiprocess.install()`. Counters and histograms are summed over all workers that ever lived; what a gauge
means is said beside it. No label carries a raw path, a raw method, a user or free text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge, Histogram, Info

if TYPE_CHECKING:
    from .middleware import MetricsMiddleware
    from .tracking import track_compression, track_decompression

__all__ = ["MetricsMiddleware", "system_info", "track_compression", "track_decompression"]

_HTTP_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)
_WORK_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)

system_info = Info("neurectomy_system", "The deployment: version, environment, cluster. One series, the newest that any worker set.")

http_requests = Counter(
    "neurectomy_http_requests",
    "Finished HTTP requests: also 404, 405, redirects, disconnects (499) and errors (500).",
    ["method", "endpoint", "status"],
)
http_request_duration_seconds = Histogram(
    "neurectomy_http_request_duration_seconds",
    "Time to the last byte of the response.",
    ["method", "endpoint"],
    buckets=_HTTP_SECONDS,
)
http_time_to_first_byte_seconds = Histogram(
    "neurectomy_http_time_to_first_byte_seconds",
    "Time to the start of the response.",
    ["method", "endpoint"],
    buckets=_HTTP_SECONDS,
)
http_request_size_bytes = Histogram(
    "neurectomy_http_request_size_bytes",
    "Bytes of the request's body that the application read.",
    ["method", "endpoint"],
    buckets=_BYTES,
)
http_response_size_bytes = Histogram(
    "neurectomy_http_response_size_bytes",
    "Bytes of the response's body that were sent.",
    ["method", "endpoint"],
    buckets=_BYTES,
)
# Living workers only: a request that died with its worker is no longer in progress.
http_requests_in_progress = Gauge(
    "neurectomy_http_requests_in_progress",
    "Requests whose response is not complete yet, in living workers.",
    ["method"],
    multiprocess_mode="livesum",
)

sigmalang_compression_requests = Counter(
    "neurectomy_sigmalang_compression_requests",
    "Compressions by outcome: success, error, timeout, cancelled.",
    ["status"],
)
sigmalang_decompression_requests = Counter(
    "neurectomy_sigmalang_decompression_requests",
    "Decompressions by outcome: success, error, timeout, cancelled.",
    ["status"],
)
sigmalang_compression_ratio = Histogram(
    "neurectomy_sigmalang_compression_ratio",
    "Original size over compressed size.",
    buckets=(1, 2, 5, 10, 15, 20, 25, 30, 40, 50),
)
sigmalang_compression_duration_seconds = Histogram(
    "neurectomy_sigmalang_compression_duration_seconds",
    "Time that a successful compression took.",
    buckets=_WORK_SECONDS,
)
sigmalang_decompression_duration_seconds = Histogram(
    "neurectomy_sigmalang_decompression_duration_seconds",
    "Time that a successful decompression took.",
    buckets=_WORK_SECONDS,
)
sigmalang_original_size_bytes = Histogram(
    "neurectomy_sigmalang_original_size_bytes",
    "Size of documents before compression.",
    buckets=_BYTES,
)
sigmalang_compressed_size_bytes = Histogram(
    "neurectomy_sigmalang_compressed_size_bytes",
    "Size of documents after compression.",
    buckets=_BYTES,
)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class or a function
    """Give what is built on the families from here too; these modules import this one."""
    if name == "MetricsMiddleware":
        from .middleware import MetricsMiddleware

        return MetricsMiddleware
    if name in {"track_compression", "track_decompression"}:
        from . import tracking

        return getattr(tracking, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
