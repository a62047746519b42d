"""The catalogue: every family of the service, declared once, with what it means under many workers.

Import it after `monitoring.multiprocess.install()`. Counters and histograms are summed over all workers that ever lived; what a gauge
means follows from its rule. No label carries a raw path, a raw method, a user or free text. `docs/metrics.md` is made from it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .catalogue.agents import (
    agent_healthy,
    agent_last_heartbeat_timestamp_seconds,
    agent_task_duration_seconds,
    agent_tasks,
    agent_utilization_ratio,
)
from .catalogue.breaker import (
    circuit_breaker_calls,
    circuit_breaker_failures,
    circuit_breaker_rebuilt,
    circuit_breaker_state,
    circuit_breaker_transitions,
)
from .catalogue.business import (
    active_users,
    api_keys_active,
    cost_dollars,
    cost_per_request,
    requests_per_user,
    tokens_generated,
    users_unnoted_requests,
)
from .catalogue.declaration import FAMILIES, Family, Rule
from .catalogue.gpu import (
    gpu_memory_total_bytes,
    gpu_power_watts,
    gpu_problems,
    gpu_process_memory_bytes,
    gpu_temperature_celsius,
    gpu_utilization_ratio,
    ryot_gpu_memory_usage_bytes,
)
from .catalogue.http import (
    http_request_duration_seconds,
    http_request_size_bytes,
    http_requests,
    http_requests_in_progress,
    http_response_size_bytes,
    http_time_to_first_byte_seconds,
)
from .catalogue.ryot import (
    ryot_batch_size,
    ryot_model_loading_duration_seconds,
    ryot_prompt_tokens,
    ryot_request_duration_seconds,
    ryot_requests,
    ryot_time_per_output_token_seconds,
    ryot_time_to_first_token_seconds,
    ryot_tokens_generated,
)
from .catalogue.sigmalang import (
    sigmalang_compressed_size_bytes,
    sigmalang_compression_duration_seconds,
    sigmalang_compression_ratio,
    sigmalang_compression_requests,
    sigmalang_decompression_duration_seconds,
    sigmalang_decompression_requests,
    sigmalang_original_size_bytes,
)
from .catalogue.sigmavault import (
    sigmavault_encryption_duration_seconds,
    sigmavault_objects_total,
    sigmavault_operation_duration_seconds,
    sigmavault_operations,
    sigmavault_snapshot_duration_seconds,
    sigmavault_snapshots,
    sigmavault_storage_bytes_total,
)
from .catalogue.system import system_info

if TYPE_CHECKING:
    from monitoring.http.middleware import MetricsMiddleware
    from monitoring.tracking.decorators import (
        increment_tokens_generated,
        track_compression,
        track_decompression,
        track_ryot_request,
        track_storage_operation,
    )

__all__ = [
    "FAMILIES",
    "Family",
    "MetricsMiddleware",
    "Rule",
    "active_users",
    "agent_healthy",
    "agent_last_heartbeat_timestamp_seconds",
    "agent_task_duration_seconds",
    "agent_tasks",
    "agent_utilization_ratio",
    "api_keys_active",
    "circuit_breaker_calls",
    "circuit_breaker_failures",
    "circuit_breaker_rebuilt",
    "circuit_breaker_state",
    "circuit_breaker_transitions",
    "cost_dollars",
    "cost_per_request",
    "gpu_memory_total_bytes",
    "gpu_power_watts",
    "gpu_problems",
    "gpu_process_memory_bytes",
    "gpu_temperature_celsius",
    "gpu_utilization_ratio",
    "http_request_duration_seconds",
    "http_request_size_bytes",
    "http_requests",
    "http_requests_in_progress",
    "http_response_size_bytes",
    "http_time_to_first_byte_seconds",
    "increment_tokens_generated",
    "requests_per_user",
    "ryot_batch_size",
    "ryot_gpu_memory_usage_bytes",
    "ryot_model_loading_duration_seconds",
    "ryot_prompt_tokens",
    "ryot_request_duration_seconds",
    "ryot_requests",
    "ryot_time_per_output_token_seconds",
    "ryot_time_to_first_token_seconds",
    "ryot_tokens_generated",
    "sigmalang_compressed_size_bytes",
    "sigmalang_compression_duration_seconds",
    "sigmalang_compression_ratio",
    "sigmalang_compression_requests",
    "sigmalang_decompression_duration_seconds",
    "sigmalang_decompression_requests",
    "sigmalang_original_size_bytes",
    "sigmavault_encryption_duration_seconds",
    "sigmavault_objects_total",
    "sigmavault_operation_duration_seconds",
    "sigmavault_operations",
    "sigmavault_snapshot_duration_seconds",
    "sigmavault_snapshots",
    "sigmavault_storage_bytes_total",
    "system_info",
    "tokens_generated",
    "track_compression",
    "track_decompression",
    "track_ryot_request",
    "track_storage_operation",
    "users_unnoted_requests",
]

_BUILT_ON_IT = {
    "MetricsMiddleware": "monitoring.http.middleware",
    **dict.fromkeys(
        (
            "increment_tokens_generated",
            "track_compression",
            "track_decompression",
            "track_ryot_request",
            "track_storage_operation",
        ),
        "monitoring.tracking.decorators",
    ),
}


def __getattr__(name: str) -> Any:
    """Give what is built on the families from here too; these modules import this one."""
    if name in _BUILT_ON_IT:
        return getattr(import_module(_BUILT_ON_IT[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
