"""The public names of the service's metrics: every family of the catalogue, the middleware, and the decorators.

Import this module after `monitoring.multiprocess.install()`. Counters and histograms are summed over all workers, past and present.
The rule of a gauge defines how its values are merged. No label holds a raw path, a raw method, a user or free text.
`docs/metrics.md` is generated from these declarations.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .catalogue import all as catalogue
from .catalogue.all import *

if TYPE_CHECKING:
    from .http.middleware import MetricsMiddleware as MetricsMiddleware
    from .tracking.decorators import increment_tokens_generated as increment_tokens_generated
    from .tracking.decorators import track_compression as track_compression
    from .tracking.decorators import track_decompression as track_decompression
    from .tracking.decorators import track_ryot_request as track_ryot_request
    from .tracking.decorators import track_storage_operation as track_storage_operation

_DECORATORS = (
    "increment_tokens_generated",
    "track_compression",
    "track_decompression",
    "track_ryot_request",
    "track_storage_operation",
)
_LAZY = {"MetricsMiddleware": ".http.middleware", **dict.fromkeys(_DECORATORS, ".tracking.decorators")}

if not TYPE_CHECKING:
    __all__ = [*catalogue.__all__, *_LAZY]


def __getattr__(name: str) -> Any:
    """Import the middleware and the decorators at their first use."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
