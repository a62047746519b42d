"""Service Health: each dependency of the service in a section of its own: language models, breakers, ΣLANG, ΣVAULT, GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.dashboard import Dashboard, Section
from monitoring.grafana.panels import GREEN, RED, YELLOW, Panel, Query, graph, latency, timeline
from monitoring.grafana.queries import share

from .gpus import gpus

if TYPE_CHECKING:
    from monitoring.grafana.queries import Queries

_CALLS = "neurectomy_ryot_requests_total"
_STATES = (("0", "closed", GREEN), ("1", "open", RED), ("2", "half-open", YELLOW))


def services(queries: Queries) -> Dashboard:
    """Give it from top to bottom."""
    return Dashboard(
        "Service Health",
        "The integrations one by one: calls, errors and times of Ryot, ΣLANG and ΣVAULT, their circuit breakers, and the GPUs.",
        (
            Section("Circuit breakers", ((_states(queries),), _breakers(queries), _changes(queries))),
            Section("Ryot: language models", (_ryot(queries), _ryot_times(queries), _ryot_work(queries))),
            Section("ΣLANG: compression", (_sigmalang(queries), _sigmalang_sizes(queries))),
            Section("ΣVAULT: storage", (_sigmavault(queries), _store(queries), _snapshots(queries))),
            gpus(queries),
        ),
    )


def _states(queries: Queries) -> Panel:
    return timeline(
        "State",
        "One breaker per service and instance, shared by its workers. Half-open: one call probes whether the service is back.",
        "none",
        Query(queries.greatest("neurectomy_circuit_breaker_state", by="instance, service"), "{{service}} on {{instance}}"),
        words=_STATES,
        above=(1,),
        alerts=("CircuitBreakerOpen",),
    )


def _breakers(queries: Queries) -> tuple[Panel, ...]:
    failures, calls = "neurectomy_circuit_breaker_failures_total", "neurectomy_circuit_breaker_calls_total"
    # A refused call was not tried.
    tried = queries.rate(calls, 'result!="refused"', by="service")
    return (
        graph(
            "Failures",
            "Share of the calls that were tried through the breaker and failed. Calls that an open breaker refused are left out.",
            "percentunit",
            Query(share(queries.rate(failures, by="service"), tried), "{{service}}"),
            above=(queries.configuration.breaker_failure_ratio,),
            alerts=("HighCircuitBreakerFailures",),
        ),
        graph(
            "Calls by result",
            "Calls through breakers per second: refused ones did not reach the service.",
            "ops",
            Query(queries.rate(calls, by="service, result"), "{{service}}: {{result}}"),
            alerts=("CircuitBreakerOpen",),
        ),
    )


def _changes(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Changes since the instances began",
            "How often breakers have changed their state, each change counted once.",
            "short",
            Query(
                queries.total("neurectomy_circuit_breaker_transitions_total", by="service, from_state, to_state"),
                "{{service}}: {{from_state}} to {{to_state}}",
            ),
            alerts=("CircuitBreakerOpen",),
        ),
        graph(
            "Damaged states since the instances began",
            "Breakers whose file was damaged: each was replaced by a closed one.",
            "short",
            Query(
                f"{queries.total('neurectomy_circuit_breaker_rebuilt_total', by='service')}"
                f" or 0 * {queries.greatest('neurectomy_circuit_breaker_state', by='service')}",
                "{{service}}",
            ),
            above=(1,),
        ),
    )


def _ryot(queries: Queries) -> tuple[Panel, ...]:
    bad = queries.rate(_CALLS, 'status=~"error|timeout"', by="model")
    return (
        graph(
            "Calls by outcome",
            "Calls of models per second; cancelled ones were left by their client.",
            "ops",
            Query(queries.rate(_CALLS, by="status"), "{{status}}"),
            stacked=True,
        ),
        graph(
            "Errors by model",
            "Share of a model's calls that ended with an error or a timeout.",
            "percentunit",
            Query(share(bad, queries.rate(_CALLS, by="model")), "{{model}}"),
            above=(queries.configuration.ryot_error_ratio,),
            alerts=("RyotLLMHighErrorRate",),
        ),
        graph(
            "Calls by model",
            "Calls per second.",
            "ops",
            Query(queries.rate(_CALLS, by="model"), "{{model}}"),
            stacked=True,
        ),
    )


def _ryot_times(queries: Queries) -> tuple[Panel, ...]:
    took = "neurectomy_ryot_request_duration_seconds"
    first, each = "neurectomy_ryot_time_to_first_token_seconds", "neurectomy_ryot_time_per_output_token_seconds"
    return (
        latency(
            "Call duration",
            "Time that a call takes, however it ends; of a stream, to its end.",
            {f"p{part * 100:g} {{{{model}}}}": queries.quantile(part, took, by="model") for part in (0.5, 0.95)},
            above=(queries.configuration.ryot_latency_seconds,),
            alerts=("RyotLLMHighLatency",),
        ),
        latency(
            "Time to the first token, p95",
            "95% of a model's calls have their first token within this time.",
            {"{{model}}": queries.quantile(0.95, first, by="model")},
        ),
        latency(
            "Time per token, p95",
            "Time per token after the first one, one observation per call.",
            {"{{model}}": queries.quantile(0.95, each, by="model")},
        ),
    )


def _ryot_work(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Tokens",
            "Tokens per second that models were given and that they generated.",
            "short",
            Query(queries.rate("neurectomy_ryot_prompt_tokens_total", by="model"), "{{model}}: prompts"),
            Query(queries.rate("neurectomy_ryot_tokens_generated_total", by="model"), "{{model}}: generated"),
        ),
        graph(
            "Batch size, mean",
            "Prompts of one call.",
            "short",
            Query(queries.mean("neurectomy_ryot_batch_size", by="model"), "{{model}}"),
        ),
        graph(
            "Loading",
            "Time that a model took to load, in the slowest living worker.",
            "s",
            Query(queries.greatest("neurectomy_ryot_model_loading_duration_seconds", by="model"), "{{model}}"),
        ),
    )


def _sigmalang(queries: Queries) -> tuple[Panel, ...]:
    packed, unpacked = "neurectomy_sigmalang_compression", "neurectomy_sigmalang_decompression"
    return (
        graph(
            "Operations by outcome",
            "Compressions and decompressions per second; errors are mostly documents that are none.",
            "ops",
            Query(queries.rate(f"{packed}_requests_total", by="status"), "compress: {{status}}"),
            Query(queries.rate(f"{unpacked}_requests_total", by="status"), "decompress: {{status}}"),
        ),
        latency(
            "Duration of successful operations, p95",
            "Time within which 95% of the operations are done.",
            {
                "compress": queries.quantile(0.95, f"{packed}_duration_seconds"),
                "decompress": queries.quantile(0.95, f"{unpacked}_duration_seconds"),
            },
        ),
    )


def _sigmalang_sizes(queries: Queries) -> tuple[Panel, ...]:
    original, compressed = "neurectomy_sigmalang_original_size_bytes", "neurectomy_sigmalang_compressed_size_bytes"
    ratio = "neurectomy_sigmalang_compression_ratio"
    return (
        graph(
            "Compression ratio",
            "Original size over compressed size: of all bytes, and the median of the documents.",
            "none",
            Query(f"{queries.rate(f'{original}_sum')} / {queries.rate(f'{compressed}_sum')}", "all bytes"),
            Query(queries.quantile(0.5, ratio), "median document"),
        ),
        graph(
            "Bytes",
            "Bytes of documents per second before and after compression.",
            "Bps",
            Query(queries.rate(f"{original}_sum"), "before"),
            Query(queries.rate(f"{compressed}_sum"), "after"),
        ),
    )


def _sigmavault(queries: Queries) -> tuple[Panel, ...]:
    done, took = "neurectomy_sigmavault_operations_total", "neurectomy_sigmavault_operation_duration_seconds"
    sealing = "neurectomy_sigmavault_encryption_duration_seconds"
    return (
        graph(
            "Operations by outcome",
            "Operations on objects per second.",
            "ops",
            Query(queries.rate(done, by="operation, status"), "{{operation}}: {{status}}"),
        ),
        latency(
            "Operation duration, p95",
            "Time within which 95% of the operations are over, however they ended.",
            {"{{operation}}": queries.quantile(0.95, took, by="operation")},
        ),
        latency(
            "Encryption, p95",
            "Time within which one object's bytes are encrypted or decrypted, for 95% of the objects.",
            {"{{operation}}": queries.quantile(0.95, sealing, by="operation")},
        ),
    )


def _store(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Stored bytes",
            "Bytes that the store of an instance holds. Instances on one store all show the same.",
            "bytes",
            Query(queries.greatest("neurectomy_sigmavault_storage_bytes_total", by="instance"), "{{instance}}"),
        ),
        graph(
            "Stored objects",
            "Objects that the store of an instance holds. Instances on one store all show the same.",
            "short",
            Query(queries.greatest("neurectomy_sigmavault_objects_total", by="instance"), "{{instance}}"),
        ),
    )


def _snapshots(queries: Queries) -> tuple[Panel, ...]:
    taken, took = "neurectomy_sigmavault_snapshots_total", "neurectomy_sigmavault_snapshot_duration_seconds"
    return (
        graph(
            "Snapshots",
            "Snapshots per hour by operation and status.",
            "short",
            Query(f"3600 * {queries.rate(taken, by='operation, status')}", "{{operation}}: {{status}}"),
        ),
        latency(
            "Snapshot duration, mean",
            "Time that a snapshot takes, however it ends.",
            {"{{operation}}": queries.mean(took, by="operation")},
        ),
    )
