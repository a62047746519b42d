"""Service Health: each dependency of the service in a section of its own: language models, breakers, ΣLANG, ΣVAULT, GPUs."""

from __future__ import annotations

from monitoring.grafana.dashboard import Dashboard, Rows
from monitoring.grafana.panels import GREEN, RED, YELLOW, graph, timeline
from monitoring.grafana.queries import Queries, share

from .gpus import gpus


def services(ask: Queries) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        "Service Health",
        "The integrations one by one: calls, errors and times of Ryot, ΣLANG and ΣVAULT, their circuit breakers, and the GPUs.",
        {
            "Circuit breakers": _breakers(ask),
            "Ryot: language models": _ryot(ask),
            "ΣLANG: compression": _sigmalang(ask),
            "ΣVAULT: storage": _sigmavault(ask),
            "GPUs": gpus(ask),
        },
    )


def _breakers(ask: Queries) -> Rows:
    state, calls = "neurectomy_circuit_breaker_state", "neurectomy_circuit_breaker_calls_total"
    yield {
        "State": timeline(
            "One breaker per service and instance, shared by its workers. Half-open: one call probes whether the service is back.",
            ask.greatest(state, by="instance, service"),
            words=(("0", "closed", GREEN), ("1", "open", RED), ("2", "half-open", YELLOW)),
            above=(1,),
            alerts=("CircuitBreakerOpen",),
        )
    }
    # A refused call was not tried.
    tried = ask.rate(calls, 'result!="refused"', by="service")
    yield {
        "Failures": graph(
            "Share of the calls that were tried through the breaker and failed. Calls that an open breaker refused are left out.",
            share(ask.rate("neurectomy_circuit_breaker_failures_total", by="service"), tried),
            above=(ask.configuration.breaker_failure_ratio,),
            alerts=("HighCircuitBreakerFailures",),
        ),
        "Calls by result": graph(
            "Calls through breakers per second: refused ones did not reach the service.",
            ask.rate(calls, by="service, result"),
            unit="ops",
            alerts=("CircuitBreakerOpen",),
        ),
    }
    changes = ask.total("neurectomy_circuit_breaker_transitions_total", by="service, from_state, to_state")
    yield {
        "Changes since the instances began": graph(
            "How often breakers have changed their state, each change counted once.",
            changes.named("{{service}}: {{from_state}} to {{to_state}}"),
            alerts=("CircuitBreakerOpen",),
        ),
        "Damaged states since the instances began": graph(
            "Breakers whose file was damaged: each was replaced by a closed one.",
            ask.total("neurectomy_circuit_breaker_rebuilt_total", by="service") | 0 * ask.greatest(state, by="service"),
            above=(1,),
        ),
    }


def _ryot(ask: Queries) -> Rows:
    calls, took = "neurectomy_ryot_requests_total", "neurectomy_ryot_request_duration_seconds"
    by_model, failed = ask.rate(calls, by="model"), ask.rate(calls, 'status=~"error|timeout"', by="model")
    yield {
        "Calls by outcome": graph(
            "Calls of models per second; cancelled ones were left by their client.",
            ask.rate(calls, by="status"),
            unit="ops",
            stacked=True,
        ),
        "Errors by model": graph(
            "Share of a model's calls that ended with an error or a timeout.",
            share(failed, by_model),
            above=(ask.configuration.ryot_error_ratio,),
            alerts=("RyotLLMHighErrorRate",),
        ),
        "Calls by model": graph("Calls per second.", by_model, unit="ops", stacked=True),
    }
    yield {
        "Call duration": graph(
            "Time that a call takes, however it ends; of a stream, to its end.",
            *ask.quantiles(0.5, 0.95, of=took, by="model"),
            above=(ask.configuration.ryot_latency_seconds,),
            alerts=("RyotLLMHighLatency",),
        ),
        "Time to the first token, p95": graph(
            "95% of a model's calls have their first token within this time.",
            ask.quantile("neurectomy_ryot_time_to_first_token_seconds", by="model"),
        ),
        "Time per token, p95": graph(
            "Time per token after the first one, one observation per call.",
            ask.quantile("neurectomy_ryot_time_per_output_token_seconds", by="model"),
        ),
    }
    yield {
        "Tokens": graph(
            "Tokens per second that models were given and that they generated.",
            ask.rate("neurectomy_ryot_prompt_tokens_total", by="model").named("{{model}}: prompts"),
            ask.rate("neurectomy_ryot_tokens_generated_total", by="model").named("{{model}}: generated"),
        ),
        "Batch size, mean": graph("Prompts of one call.", ask.mean("neurectomy_ryot_batch_size", by="model")),
        "Loading": graph(
            "Time that a model took to load, in the slowest living worker.",
            ask.greatest("neurectomy_ryot_model_loading_duration_seconds", by="model"),
        ),
    }


def _sigmalang(ask: Queries) -> Rows:
    packed, unpacked = "neurectomy_sigmalang_compression", "neurectomy_sigmalang_decompression"
    yield {
        "Operations by outcome": graph(
            "Compressions and decompressions per second; errors are mostly documents that are none.",
            ask.rate(f"{packed}_requests_total", by="status").named("compress: {{status}}"),
            ask.rate(f"{unpacked}_requests_total", by="status").named("decompress: {{status}}"),
            unit="ops",
        ),
        "Duration of successful operations, p95": graph(
            "Time within which 95% of the operations are done.",
            ask.quantile(f"{packed}_duration_seconds").named("compress"),
            ask.quantile(f"{unpacked}_duration_seconds").named("decompress"),
        ),
    }
    before, after = (ask.rate(f"neurectomy_sigmalang_{name}_size_bytes_sum") for name in ("original", "compressed"))
    yield {
        "Compression ratio": graph(
            "Original size over compressed size: of all bytes, and the median of the documents.",
            (before / after).named("all bytes"),
            ask.quantile(f"{packed}_ratio", part=0.5).named("median document"),
            unit="none",
        ),
        "Bytes": graph("Bytes of documents per second before and after compression.", before.named("before"), after.named("after")),
    }


def _sigmavault(ask: Queries) -> Rows:
    vault, each = "neurectomy_sigmavault", "operation, status"
    yield {
        "Operations by outcome": graph("Operations on objects per second.", ask.rate(f"{vault}_operations_total", by=each), unit="ops"),
        "Operation duration, p95": graph(
            "Time within which 95% of the operations are over, however they ended.",
            ask.quantile(f"{vault}_operation_duration_seconds", by="operation"),
        ),
        "Encryption, p95": graph(
            "Time within which one object's bytes are encrypted or decrypted, for 95% of the objects.",
            ask.quantile(f"{vault}_encryption_duration_seconds", by="operation"),
        ),
    }
    yield {
        f"Stored {things}": graph(
            f"{things.capitalize()} that the store of an instance holds. Instances on one store all show the same.",
            ask.greatest(f"{vault}_{family}_total", by="instance"),
        )
        for things, family in (("bytes", "storage_bytes"), ("objects", "objects"))
    }
    yield {
        "Snapshots": graph("Snapshots per hour by operation and status.", 3600 * ask.rate(f"{vault}_snapshots_total", by=each)),
        "Snapshot duration, mean": graph(
            "Time that a snapshot takes, however it ends.", ask.mean(f"{vault}_snapshot_duration_seconds", by="operation")
        ),
    }
