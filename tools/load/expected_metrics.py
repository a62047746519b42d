"""The metrics that an operation of the service moves in addition to HTTP's, derived from the answer to its request."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from monitoring.verify.ledger import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monitoring.verify.ledger import Ledger
    from tools.load.request import Moves, Outcome

#: Refused before any operation starts: no key, a wrong one, the wrong role; no such method; not JSON.
_BEFORE = frozenset({401, 403, 405, 415})
_MINE = frozenset({400, 404, 409, 413, 422, 507})
"""Refused by the operation itself. Any other status, for example 503, may come from before the operation or from within."""

OTHER = "_other"


def _count(ledger: Ledger, outcome: Outcome, name: str, **labels: str) -> bool:
    """Count one operation by its outcome; return whether it succeeded."""
    status = outcome.status if outcome.whole else 0
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        ledger.certain(Sample.of(name, **labels, status="success"))
        return True
    if status in _MINE:
        ledger.certain(Sample.of(name, **labels, status="error"))
    elif status not in _BEFORE:
        ledger.perhaps(Sample.of(name, **labels))
    return False


def compression(document: int) -> Moves:
    """Expect a compression of a document of this many bytes."""
    original, compressed = Sample.of("sigmalang_original_size_bytes_sum"), Sample.of("sigmalang_compressed_size_bytes_sum")

    def moves(outcome: Outcome, ledger: Ledger) -> None:
        if _count(ledger, outcome, "sigmalang_compression_requests_total"):
            ledger.certain(original, document)
            ledger.certain(compressed, len(outcome.body))
        elif not outcome.whole:
            ledger.between(original, 0, document)
            ledger.between(compressed, 0, 2 * document + 1024)

    return moves


def decompression(outcome: Outcome, ledger: Ledger) -> None:
    """Expect a decompression."""
    _count(ledger, outcome, "sigmalang_decompression_requests_total")


def vault(operation: str) -> Moves:
    """Expect an operation on an object: store, retrieve, delete."""

    def moves(outcome: Outcome, ledger: Ledger) -> None:
        _count(ledger, outcome, "sigmavault_operations_total", operation=operation)

    return moves


def backup(outcome: Outcome, ledger: Ledger) -> None:
    """Expect a snapshot to be taken."""
    _count(ledger, outcome, "sigmavault_snapshots_total", operation="backup")


def restored(_outcome: Outcome, ledger: Ledger) -> None:
    """Expect a restore. Another process counts it, perhaps a moment after the answer."""
    ledger.perhaps(Sample.of("sigmavault_snapshots_total", operation="restore"))


def reported(agent: str, status: str) -> Moves:
    """Expect a task to be reported with this status."""
    sample = Sample.of("agent_tasks_total", agent=agent, status=status)

    def moves(outcome: Outcome, ledger: Ledger) -> None:
        if not outcome.whole or outcome.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            ledger.between(sample, 0, 1)
        elif outcome.status == HTTPStatus.NO_CONTENT:
            ledger.certain(sample)

    return moves


def model_call(model: str, tokens: int, prompt: int, *, refused_as: str = OTHER) -> Moves:
    """Expect a call of a model that may generate up to `tokens` tokens, with a prompt of up to `prompt` tokens.

    `refused_as` is the model label of a refusal: `_other` if the service does not list the model.
    """
    generated = [Sample.of(name, model=model) for name in ("ryot_tokens_generated_total", "tokens_generated_total")]
    prompted = Sample.of("ryot_prompt_tokens_total", model=model)

    def moves(outcome: Outcome, ledger: Ledger) -> None:
        status = outcome.status if outcome.whole else 0
        usage, seen, broken = _usage(outcome)
        if status == HTTPStatus.OK and usage is not None and not broken:
            ledger.certain(Sample.of("ryot_requests_total", model=model, status="success"))
            for sample in generated:
                ledger.certain(sample, usage.get("completion_tokens", 0))
            ledger.certain(prompted, usage.get("prompt_tokens", 0))
            return
        if status in _MINE:
            ledger.certain(Sample.of("ryot_requests_total", model=refused_as, status="error"))
        elif status not in _BEFORE:
            ledger.perhaps(Sample.of("ryot_requests_total", model=model))
            if not outcome.status:
                ledger.perhaps(Sample.of("ryot_requests_total", model=OTHER))
            # Tokens of a stream are counted before they are sent, and billed at its end.
            ledger.between(generated[0], seen, max(tokens, seen))
            ledger.between(generated[1], 0, max(tokens, seen))
            ledger.between(prompted, 0, prompt)

    return moves


def _usage(outcome: Outcome) -> tuple[dict[str, Any] | None, int, bool]:
    """Return the usage in an answer, the number of chunks with a token, and whether the answer ended with an error."""
    if not outcome.body.startswith(b"data:"):
        whole = outcome.json() if outcome.whole else None
        usage = whole.get("usage") if isinstance(whole, dict) else None
        return (usage if isinstance(usage, dict) else None), 0, False
    usage, seen, broken = None, 0, False
    for chunk in _events(outcome.body):
        broken = broken or "error" in chunk
        if isinstance(chunk.get("usage"), dict):
            usage = chunk["usage"]
        choices = chunk.get("choices") or []
        seen += sum(1 for choice in choices if choice.get("text") or (choice.get("delta") or {}).get("content"))
    return usage, seen, broken


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    # The text after the last blank line is an incomplete event.
    for event in body.split(b"\n\n")[:-1]:
        data = event.strip().removeprefix(b"data:").strip()
        if data.startswith(b"{"):
            yield json.loads(data)
