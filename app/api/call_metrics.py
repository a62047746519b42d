"""The metrics of one call of a model: counted once, before the message that shows the client its outcome."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from monitoring import metrics

OTHER = "_other"
"""The label of every model that the backend does not list."""

_MOST_TOKENS = 1_000_000_000
"""A backend's usage above this is ignored: no call can use more tokens."""


class Tally:
    """One call from its request to its end."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self.label = OTHER
        self._first = self._last = 0.0
        self._timed = 0
        #: Tokens so far, of the prompt and of the generated text.
        self.generated = self.prompted = 0
        self._ended = False

    def model(self, label: str, prompts: int) -> None:
        """Set the model, which the backend must list, and count the batch."""
        self.label = label
        metrics.ryot_batch_size.labels(label).observe(prompts)

    def tokens(self, number: int) -> None:
        """Count tokens as soon as they arrive."""
        self._last = perf_counter()
        if not self._timed:
            self._first = self._last
            metrics.ryot_time_to_first_token_seconds.labels(self.label).observe(self._first - self._began)
        self._timed += number
        self.generated += number
        metrics.ryot_tokens_generated.labels(self.label).inc(number)

    def usage(self, usage: Any) -> None:
        """Count the tokens of the backend's usage that are not counted yet."""
        if not isinstance(usage, dict):
            return
        prompted = _number(usage.get("prompt_tokens")) - self.prompted
        if prompted > 0:
            self.prompted += prompted
            metrics.ryot_prompt_tokens.labels(self.label).inc(prompted)
        generated = _number(usage.get("completion_tokens")) - self.generated
        if generated > 0:
            self.generated += generated
            metrics.ryot_tokens_generated.labels(self.label).inc(generated)

    def end(self, status: str) -> None:
        """Count the call; only the first end counts."""
        if self._ended:
            return
        self._ended = True
        if self._timed > 1:
            each = (self._last - self._first) / (max(self._timed, self.generated) - 1)
            metrics.ryot_time_per_output_token_seconds.labels(self.label).observe(each)
        metrics.ryot_request_duration_seconds.labels(self.label).observe(perf_counter() - self._began)
        metrics.ryot_requests.labels(self.label, status).inc()


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else 0
