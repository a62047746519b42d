"""The requests of a run and their outcomes, as text to compare with the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from monitoring.verify.ledger import Ledger, Sample
    from tools.load.client import Client

OPERATIONS = {
    "sigmalang_compression_requests_total": "compress",
    "sigmalang_decompression_requests_total": "decompress",
    "sigmavault_operations_total": "vault",
    "sigmavault_snapshots_total": "snapshot",
    "ryot_requests_total": "model",
    "agent_tasks_total": "task",
}
AMOUNTS = {
    "http_request_size_bytes_sum": "bytes of requests that were read",
    "http_response_size_bytes_sum": "bytes of responses",
    "sigmalang_original_size_bytes_sum": "bytes that were compressed",
    "sigmalang_compressed_size_bytes_sum": "bytes after compression",
    "ryot_prompt_tokens_total": "tokens of prompts",
    "ryot_tokens_generated_total": "tokens generated",
    "tokens_generated_total": "tokens billed",
}


def summary(client: Client, seconds: float, moved: Counter[Sample] | None) -> list[str]:
    """Return the lines; with the increase of the metrics if they were scraped."""
    ledger = client.ledger
    head = ("acknowledged", "sent", "counted") if moved is not None else ("acknowledged", "sent")
    rows: list[tuple[str, ...]] = [("endpoint", "method", "status", *head)]
    rows += [
        (s.label("endpoint"), s.label("method"), s.label("status"), *_numbers(ledger, s, moved))
        for s in _of(ledger, moved, "http_requests_total")
    ]
    lines = [f"{client.sent} requests in {seconds:.1f} s, without set-up and clean-up", "", *_table(rows), ""]
    rows = [("operation", "", "status", *head)]
    for name, word in OPERATIONS.items():
        for sample in _of(ledger, moved, name):
            what = " ".join(value for label, value in sample.labels if label != "status")
            rows.append((word, what, sample.label("status"), *_numbers(ledger, sample, moved)))
    lines += [*_table(rows), ""]
    rows = [("amount", "at least", *(("counted",) if moved is not None else ()))]
    for name, words in AMOUNTS.items():
        last = () if moved is None else (f"{sum(moved[sample] for sample in moved if sample.name == name):.15g}",)
        rows.append((words, str(ledger.total(name)), *last))
    lines += [*_table(rows), ""]
    unknown = sum(calls for group, calls in ledger.unknown.items() if group.name == "http_requests_total")
    lines.append(
        f"{unknown} requests without a whole answer, which may be counted with any status; {ledger.refused} refused ones, which are not"
    )
    for title, found in (("unexpected", client.surprises), ("wrong", client.faults), ("note", client.notes)):
        lines += [f"{title}: {line}" + (f" ({times} times)" if times > 1 else "") for line, times in sorted(found.items())]
    return lines


def _of(ledger: Ledger, moved: Counter[Sample] | None, name: str) -> list[Sample]:
    """Return the samples of a name that were acknowledged or counted."""
    counted = {sample for sample, amount in (moved or {}).items() if amount}
    return sorted(sample for sample in counted | set(ledger.samples()) if sample.name == name)


def _numbers(ledger: Ledger, sample: Sample, moved: Counter[Sample] | None) -> tuple[str, ...]:
    least, most = ledger.least[sample], ledger.most(sample)
    numbers = str(least), f"{most:g}" if most == least else f"<= {most:g}"
    return numbers if moved is None else (*numbers, f"{moved[sample]:g}")


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            text.rjust(width) if text[:2] == "<=" or text.isdigit() else text.ljust(width) for text, width in zip(row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()
